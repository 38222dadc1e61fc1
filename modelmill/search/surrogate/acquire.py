"""Where a model of trials promises most: worths of a candidate, and the search for the candidate of the highest worth.

Ament, Daulton, Eriksson, Balandat, Bakshy (2023), https://arxiv.org/abs/2310.20708, for the logarithm of the expected
improvement; Knowles (2006), https://doi.org/10.1109/TEVC.2005.851274, for several objectives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from modelmill.search.surrogate.encode import Encoding
from modelmill.search.surrogate.gaussian import Process

Array = np.ndarray[Any, Any]

ROOT = math.sqrt(2 * math.pi)
MIX = 0.05
"""How much the sum of all objectives counts beside the worst of them."""


class Worth(Protocol):
    """What a candidate promises; higher is better."""

    def at(self, features: Array) -> Array:
        """The worth of each row of features."""

    def slope(self, features: Array) -> tuple[float, Array] | None:
        """The worth of one row and how it changes with each feature; None where that is not known."""


@dataclass(frozen=True, eq=False)
class Improvement:
    """The logarithm of the expected improvement on the best loss, and of the chance to keep the limits."""

    loss: Process | None
    """None where nothing keeps the limits yet: then only the chance to do so counts."""
    best: float
    limits: Process | None
    """A model of numbers that are below 0 where the limits are kept; None where they always are."""

    def at(self, features: Array) -> Array:
        """The worth of each row of features."""
        found = np.zeros(len(features))
        if self.loss is not None:
            mean, deviation = self.loss.at(features)
            found += np.log(deviation) + log_improvement((self.best - mean) / deviation)
        if self.limits is not None:
            found += _log_kept(*self.limits.at(features))
        return found

    def slope(self, features: Array) -> tuple[float, Array]:
        """As `at`, for one row."""
        from scipy.special import log_ndtr

        found, change = 0.0, np.zeros(len(features))
        if self.loss is not None:
            mean, deviation, mean_change, deviation_change = self.loss.slope(features)
            z = (self.best - mean) / deviation
            log_h = float(log_improvement(np.array([z]))[0])
            found += math.log(deviation) + log_h
            chance = math.exp(min(float(log_ndtr(z)) - log_h, 700))
            density = math.exp(min(-z * z / 2 - math.log(ROOT) - log_h, 700))
            change += (density * deviation_change - chance * mean_change) / deviation
        if self.limits is not None:
            mean, deviation, mean_change, deviation_change = self.limits.slope(features)
            z = -mean / deviation
            log_chance = float(log_ndtr(z))
            found += log_chance
            density = math.exp(min(-z * z / 2 - math.log(ROOT) - log_chance, 700))
            change += density * (-mean_change - z * deviation_change) / deviation
        return found, change


@dataclass(frozen=True, eq=False)
class Scalarised:
    """The logarithm of the expected improvement of one mixture of several objectives, by draws."""

    losses: tuple[Process, ...]
    floor: Array
    """(objectives,) the least of each."""
    mixture: Array
    """(objectives,) how much each counts."""
    best: float
    draws: Array
    """(draws, objectives) of a standard normal."""
    limits: Process | None

    def at(self, features: Array) -> Array:
        """The worth of each row of features."""
        models = [model.at(features) for model in self.losses]
        mean = np.stack([mean for mean, _ in models], axis=1) - self.floor
        deviation = np.stack([deviation for _, deviation in models], axis=1)
        drawn = mean[None] + deviation[None] * self.draws[:, None, :]
        gain = np.logaddexp(0.0, (self.best - chebyshev(drawn, self.mixture)) / 0.01) * 0.01
        found: Array = np.log(np.maximum(gain.mean(axis=0), 1e-300))
        return found if self.limits is None else np.asarray(found + _log_kept(*self.limits.at(features)))

    def slope(self, features: Array) -> None:
        """Not known."""


def chebyshev(losses: Array, mixture: Array) -> Array:
    """The worst of weighted objectives, and a little of their sum; over the last axis."""
    weighted = losses * mixture
    return np.asarray(weighted.max(axis=-1) + MIX * weighted.sum(axis=-1))


def log_improvement(z: Array) -> Array:
    """The logarithm of what a standard normal below z falls short of it, on average.

    >>> bool(np.isclose(np.exp(log_improvement(np.array([0.0]))[0]), 0.39894, atol=1e-5))
    True
    """
    from scipy.special import erfcx, log_ndtr

    z = np.asarray(z, float)
    low = np.minimum(z, -1.0)
    near = np.maximum(z, -1.0)
    high = np.exp(-(near**2) / 2) / ROOT + near * np.exp(log_ndtr(near))
    tail = np.log(erfcx(-low / math.sqrt(2)) * np.abs(low)) + math.log(math.pi / 2) / 2
    far = -np.log(low**2) - 1e-9
    gap = np.where(low > -1e4, np.log1p(-np.exp(np.minimum(tail, -1e-16))), far)
    return np.asarray(np.where(z > -1.0, np.log(np.maximum(high, 1e-300)), -(low**2) / 2 - math.log(ROOT) + gap))


def _log_kept(mean: Array, deviation: Array) -> Array:
    from scipy.special import log_ndtr

    return np.asarray(log_ndtr(-mean / deviation))


@dataclass(frozen=True)
class Effort:
    """How hard to look for the highest worth."""

    spread: int = 400
    """Candidates all over the space."""
    near: int = 160
    """Candidates around the best trials."""
    rounds: int = 3
    """How often the best candidates so far are varied again."""
    climbs: int = 3
    """Candidates that are refined along the slope."""
    steps: int = 25
    """Steps of each climb at most."""


Known = Callable[[Array], Array]
"""Which codes (rows, dimensions) were tried before."""


def highest(
    encoding: Encoding, worth: Worth, around: Array, known: Known, draw: np.random.Generator, effort: Effort = Effort()
) -> Array | None:
    """The code of the highest worth that was not tried; None where all that were looked at were.

    around: (rows, dimensions) codes of the best trials, best first.
    """
    codes = encoding.random(effort.spread, draw)
    if len(around):
        codes = np.concatenate([codes, varied(encoding, encoding.filled(around, draw), effort.near, draw)])
    codes, values = _rated(encoding, worth, codes, known)
    for _ in range(effort.rounds):
        top = codes[np.argsort(-values, kind="stable")[:4]]
        if not len(top):
            return None
        more = _rated(encoding, worth, varied(encoding, encoding.filled(top, draw), effort.near // 2, draw), known)
        codes, values = np.concatenate([codes, more[0]]), np.concatenate([values, more[1]])
    if not len(codes):
        return None
    ranked = np.argsort(-values, kind="stable")
    climbed = [(codes[i], float(values[i])) for i in ranked[:1]]
    for i in _apart(encoding.features(codes[ranked[:40]]), effort.climbs):
        climbed.append(_climb(encoding, worth, codes[ranked[i]], effort.steps))
    return np.asarray(max(climbed, key=lambda pair: pair[1])[0])


def varied(encoding: Encoding, codes: Array, count: int, draw: np.random.Generator) -> Array:
    """(count, dimensions) variations of full codes: few columns or many, by small and large steps."""
    rows = np.arange(count) % len(codes)
    found = codes[rows].copy()
    width = found.shape[1]
    share = np.where(draw.random(count) < 0.5, 1.5 / max(width, 1), draw.random(count))
    moved = draw.random(found.shape) < share[:, None]
    moved[np.arange(count), draw.integers(width, size=count)] = True
    size = 10.0 ** draw.uniform(-3, -0.3, size=(count, 1))
    step = draw.standard_normal(found.shape) * size
    least = np.array([0.0 if near is None else 1.0 / len(near) for near in encoding.places])
    step = np.sign(step) * np.maximum(np.abs(step), least)
    numbers = found + step
    other = encoding.random(count, draw)
    numbers = np.abs(numbers)
    numbers = 1 - np.abs(1 - numbers)
    new = np.where(encoding.counts > 0, other, np.clip(numbers, 0, 1))
    return np.where(moved, new, found)


def _rated(encoding: Encoding, worth: Worth, codes: Array, known: Known) -> tuple[Array, Array]:
    """The codes as they would be tried, without those that were, and what they are worth."""
    snapped = encoding.snapped(codes)
    snapped = snapped[~known(snapped)]
    values = worth.at(encoding.features(snapped)) if len(snapped) else np.zeros(0)
    return snapped, values


def _apart(features: Array, count: int) -> list[int]:
    """The first row, and further ones that are not beside those before."""
    found: list[int] = []
    for i, row in enumerate(features):
        if len(found) == count:
            break
        if all(np.abs(row - features[j]).max() > 0.03 for j in found):
            found.append(i)
    return found


def _climb(encoding: Encoding, worth: Worth, code: Array, steps: int) -> tuple[Array, float]:
    """A code with its real numbers moved to where the worth is highest near by."""
    from scipy.optimize import minimize

    free = np.flatnonzero(encoding.real & ~np.isnan(code))
    features = encoding.features(code[None])[0]
    first = worth.slope(features) if len(free) else None
    if first is None:
        return code, -math.inf
    spots = np.array([int(np.flatnonzero(encoding.group == i)[0]) for i in free])

    def loss(units: Array) -> tuple[float, Array]:
        features[spots] = units
        found = worth.slope(features)
        assert found is not None
        return -found[0], -found[1][spots]

    best = minimize(
        loss, code[free], jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(free), options={"maxiter": steps}
    )
    moved = code.copy()
    moved[free] = best.x
    return moved, -float(best.fun)
