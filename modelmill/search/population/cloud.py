"""A normal distribution that learns from ranked points where good ones lie: covariance matrix adaptation.

Hansen (2016), The CMA evolution strategy: a tutorial, https://arxiv.org/abs/1604.00772
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

NORMAL = NormalDist()


@dataclass(frozen=True, eq=False)
class Rates:
    """How fast a cloud of some dimensions learns from generations of some size (the tutorial's table 1)."""

    weights: Array
    """(population,) for points from best to worst; those of the worse half are below 0."""
    mass: float
    """How many points the mean effectively rests on."""
    path: float
    damping: float
    one: float
    many: float
    trail: float
    length: float
    """How long a standard normal vector is expected to be."""


@lru_cache(maxsize=256)
def rates(n: int, population: int) -> Rates:
    """The tutorial's defaults, equations 49 to 58."""
    raw = math.log((population + 1) / 2) - np.log(np.arange(1, population + 1))
    good, bad = np.maximum(raw, 0), np.minimum(raw, 0)
    mass = good.sum() ** 2 / (good**2).sum()
    mass_bad = bad.sum() ** 2 / max((bad**2).sum(), 1e-12)
    one = 2 / ((n + 1.3) ** 2 + mass)
    many = min(1 - one, 2 * (0.25 + mass + 1 / mass - 2) / ((n + 2) ** 2 + mass))
    limit = min(1 + one / many, 1 + 2 * mass_bad / (mass + 2), (1 - one - many) / (n * many))
    path = (mass + 2) / (n + mass + 5)
    return Rates(
        weights=good / good.sum() + bad / max(-bad.sum(), 1e-12) * limit,
        mass=mass,
        path=path,
        damping=1 + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1) + path,
        one=one,
        many=many,
        trail=(4 + mass / n) / (n + 4 + 2 * mass / n),
        length=math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n)),
    )


@dataclass(frozen=True, eq=False)
class Cloud:
    """Mean, width and shape of the distribution, and the paths that its mean has taken of late."""

    mean: Array
    width: float
    shape: Array
    """(n, n), the covariance but for the width and the stretch."""
    axes: Array
    """(n, n), eigenvectors of the shape in columns."""
    lengths: Array
    """(n,), roots of its eigenvalues."""
    steps: Array
    """(n,), the path of the mean in units of its own steps."""
    trail: Array
    """(n,), the path of the mean."""
    stretch: Array
    """(n,), by how much values with steps are widened, so that none is lost."""
    generation: int = 0

    @property
    def spread(self) -> Array:
        """(n,), the standard deviation of every coordinate."""
        return np.asarray(self.width * self.stretch * np.sqrt(np.diag(self.shape)))


def cloud(mean: Array, width: float) -> Cloud:
    """A round one."""
    n = len(mean)
    zero, one = np.zeros(n), np.ones(n)
    return Cloud(mean, width, np.eye(n), np.eye(n), one, steps=zero, trail=zero, stretch=one)


def sample(found: Cloud, draw: np.random.Generator, tries: int = 10) -> Array:
    """A point between 0 and 1: drawn again where it lies outside, at last cut off."""
    for _ in range(tries):
        z = draw.standard_normal(len(found.mean))
        point = found.mean + found.width * found.stretch * (found.axes @ (found.lengths * z))
        if np.all((point >= 0) & (point <= 1)):
            break
    return np.clip(point, 0.0, 1.0)


def learn(found: Cloud, points: Array, foreign: Array) -> Cloud:
    """The next generation's cloud.

    points: (population, n), best first. foreign: (population,) whether a point was drawn from another distribution: it
    is brought as near as a draw of this one would lie. Hansen (2011), Injecting external solutions into CMA-ES,
    https://arxiv.org/abs/1110.4181
    """
    n = len(found.mean)
    rate = rates(n, len(points))
    y = (points - found.mean) / (found.width * found.stretch)
    z = (y @ found.axes) / found.lengths
    norms = np.linalg.norm(z, axis=1)
    limit = math.sqrt(n) + 2 * n / (n + 2)
    shrink = np.where(foreign & (norms > limit), limit / np.maximum(norms, 1e-12), 1.0)
    y, z, norms = y * shrink[:, None], z * shrink[:, None], norms * shrink
    good = np.maximum(rate.weights, 0)
    move = good @ y
    steps = (1 - rate.path) * found.steps + math.sqrt(rate.path * (2 - rate.path) * rate.mass) * (
        found.axes @ (good @ z)
    )
    long = np.linalg.norm(steps) / math.sqrt(1 - (1 - rate.path) ** (2 * (found.generation + 1)))
    still = 1.0 if long < (1.4 + 2 / (n + 1)) * rate.length else 0.0
    trail = (1 - rate.trail) * found.trail + still * math.sqrt(rate.trail * (2 - rate.trail) * rate.mass) * move
    weights = np.where(rate.weights >= 0, rate.weights, rate.weights * n / np.maximum(norms**2, 1e-12))
    kept = 1 + (1 - still) * rate.one * rate.trail * (2 - rate.trail) - rate.one - rate.many * rate.weights.sum()
    shape = kept * found.shape + rate.one * np.outer(trail, trail) + rate.many * (y.T * weights) @ y
    gain = rate.path / rate.damping * (float(np.linalg.norm(steps)) / rate.length - 1)
    return _with_axes(
        replace(
            found,
            mean=np.clip(found.mean + found.width * found.stretch * move, 0.0, 1.0),
            width=min(found.width * math.exp(min(1.0, gain)), 1.0),
            shape=shape,
            steps=steps,
            trail=trail,
            generation=found.generation + 1,
        )
    )


def _with_axes(found: Cloud) -> Cloud:
    shape = (found.shape + found.shape.T) / 2
    values, axes = np.linalg.eigh(shape)
    floor = max(values[-1], 1e-300) * 1e-14
    if values[0] < floor:
        values = np.maximum(values, floor)
        shape = (axes * values) @ axes.T
    return replace(found, shape=shape, axes=axes, lengths=np.sqrt(values))


def with_margin(found: Cloud, cells: Array, margin: float) -> Cloud:
    """The cloud moved and stretched so that a coordinate with steps leaves its present value with a chance.

    cells: (n, 2), the bounds of the cell in which the mean lies; infinite at the ends of a range, NaN where there are
    no steps. Hamano et al. (2022), CMA-ES with margin, https://arxiv.org/abs/2205.13482
    """
    mean, stretch, spread = found.mean.copy(), found.stretch.copy(), found.spread
    for i, (low, high) in enumerate(cells):
        if np.isnan(low) or (np.isinf(low) and np.isinf(high)):
            continue
        if np.isinf(low) or np.isinf(high):
            edge = high if np.isinf(low) else low
            reach = NORMAL.inv_cdf(1 - margin) * spread[i]
            mean[i] = edge + np.sign(mean[i] - edge) * min(abs(mean[i] - edge), reach)
        else:
            mean[i], wide = _both_sides(mean[i], spread[i], low, high, margin)
            stretch[i] *= wide / spread[i]
    return replace(found, mean=mean, stretch=stretch)


def _both_sides(mean: float, spread: float, low: float, high: float, margin: float) -> tuple[float, float]:
    """Mean and spread with which the chance to leave the cell on either side is half the margin at least."""
    below, above = NORMAL.cdf((low - mean) / spread), NORMAL.cdf((mean - high) / spread)
    if min(below, above) >= margin / 2:
        return mean, spread
    inside = max(1 - below - above, margin / 2)
    below, above = max(below, margin / 2), max(above, margin / 2)
    excess = (1 - below - above - inside) / (below + above + inside - 1.5 * margin)
    below, above = below + excess * (below - margin / 2), above + excess * (above - margin / 2)
    one, two = NORMAL.inv_cdf(1 - min(below, 1 - 1e-9)), NORMAL.inv_cdf(1 - min(above, 1 - 1e-9))
    if one + two < 1e-9:
        return mean, spread
    return (low * two + high * one) / (one + two), (high - low) / (one + two)
