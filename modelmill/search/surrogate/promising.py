"""A Gaussian process over the trials of a search: what it learns from, and the candidate that it holds most of."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from modelmill.contracts import Pick
from modelmill.history import History, Past, Suggestion
from modelmill.search.past import order
from modelmill.search.surrogate.acquire import Improvement, Scalarised, Worth, chebyshev, highest
from modelmill.search.surrogate.encode import Encoding
from modelmill.search.surrogate.gaussian import Process, Shape, condition, fit
from modelmill.search.surrogate.threads import one_thread
from modelmill.space import Settings, Space

Array = np.ndarray[Any, Any]

KEY = "gp"
"""Under which name a trial's memo says what picked it: the model, or the wish to spread."""
NOTE = "settings that only some branches have count as standing in the middle of their range on all others"
FLOOR = 0.01
"""What is added before a logarithm, as a part of the median distance from the best loss."""
DRAWS = 32
"""Draws by which the improvement of several objectives is averaged."""
TWINS = 8
"""How often a candidate is looked for that is not one of those before in other words."""
FITTED = 100
"""Trials that a shape is fitted to at most."""
KEPT = 12
"""Shapes that are remembered."""


def promising(space: Space, startup: int, newest: int) -> Pick:
    """What picks the candidate with the largest expected improvement."""
    made = cache(lambda: Shapes(Encoding(space)))

    def pick(history: History, seed: int) -> Suggestion:
        shapes, draw = made(), np.random.default_rng(seed)
        encoding = shapes.encoding
        tried, by = Tried(encoding, history), "spread"
        settings = None
        if len(history) >= startup and encoding.dimensions:
            with one_thread():
                worth = believed(shapes, tried, newest, draw)
                if worth is not None:
                    settings, by = best_new(space, encoding, worth, tried, draw), "model"
        elif encoding.dimensions:
            settings = encoding.settings(remote(encoding, tried, draw), draw)
        settings = settings or space.random(draw)
        told = any(KEY in one.memo for one in history)
        return Suggestion(settings, {KEY: by}, NOTE if space.conditional and not told else "")

    return pick


def best_new(space: Space, encoding: Encoding, worth: Worth, tried: Tried, draw: np.random.Generator) -> Settings:
    """The settings of the highest worth that make another candidate than those that were tried, as far as one looks."""
    known = {space.key(one.settings) for one in tried.history}
    for _ in range(TWINS):
        code = highest(encoding, worth, tried.best(5), tried.known, draw)
        if code is None:
            break
        settings = encoding.settings(code, draw)
        if space.key(settings) not in known:
            return settings
        tried.add(code)
    return space.random(draw)


def remote(encoding: Encoding, tried: Tried, draw: np.random.Generator, count: int = 12) -> Array:
    """Of some random codes, the one farthest from what was tried.

    Mitchell (1991), Spectrally optimal sampling for distribution ray tracing
    """
    codes = encoding.snapped(encoding.random(count, draw))
    if not len(tried.codes):
        return np.asarray(codes[0])
    features = encoding.features(codes)
    away = ((features[:, None] - encoding.features(tried.codes)[None]) ** 2).sum(-1).min(1)
    return np.asarray(codes[int(away.argmax())])


class Tried:
    """The trials of a history as codes."""

    def __init__(self, encoding: Encoding, history: History) -> None:
        self.history = history
        rows = [encoding.recall(one.number, one.settings) for one in history]
        self.codes = np.array(rows).reshape(len(rows), len(encoding.dimensions))
        self._digests = set(_digests(self.codes))

    def known(self, codes: Array) -> Array:
        """Which of some codes were tried."""
        return np.array([digest in self._digests for digest in _digests(codes)], bool)

    def add(self, code: Array) -> None:
        """Count a code as tried, too: it makes a candidate that was."""
        self._digests.update(_digests(code[None]))

    def best(self, count: int) -> Array:
        """The codes of the best trials, best first."""
        place = {one.number: i for i, one in enumerate(self.history)}
        return self.codes[[place[one.number] for one in order(self.history)[:count]]]


def _digests(codes: Array) -> list[bytes]:
    return [row.tobytes() for row in np.round(codes, 9)]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model learns from: rows of features, and a number for each."""

    features: Array
    values: Array


class Shapes:
    """Fits the shapes of processes; state: the last ones, by what they were fitted to."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self._known: OrderedDict[bytes, Shape] = OrderedDict()

    def of(self, seen: Seen) -> Shape:
        """The shape that is fitted to a part of what was seen: so many trials that few are new since the last fit."""
        chosen = few(seen.values[: refit_at(len(seen.values))])
        features, values = seen.features[chosen], standard(seen.values[chosen])
        key = features.tobytes() + values.tobytes()
        if key not in self._known:
            self._known[key] = fit(features, self.encoding.group, values)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def scaled(self, features: Array, losses: Array) -> tuple[Array, Shape]:
        """Losses as they are, or their logarithms: as a process explains them better; and its shape."""
        chosen = few(losses[: refit_at(len(losses))])
        found = []
        for scale in (plain, logged):
            values, squeezed = scale(losses[chosen])
            shape = self.of(Seen(features[chosen], values))
            found.append((shape.evidence + squeezed, shape))
        scale, (_, shape) = (plain, found[0]) if found[0][0] >= found[1][0] else (logged, found[1])
        return scale(losses)[0], shape

    def process(self, shape: Shape, seen: Seen, pending: Array) -> Process:
        """A process that has seen it all, and believes in its own mean at pending features (rows, features)."""
        found = condition(shape, seen.features, self.encoding.group, seen.values)
        if not len(pending):
            return found
        mean, _ = found.at(pending)
        features = np.concatenate([seen.features, pending])
        return condition(shape, features, self.encoding.group, np.concatenate([seen.values, mean]))


def few(values: Array) -> Array:
    """The places of at most FITTED values, in their order: the lowest half of the number, and others evenly.

    >>> len(few(np.arange(500.0))), few(np.array([3.0, 1.0])).tolist()
    (100, [0, 1])
    """
    if len(values) <= FITTED:
        return np.arange(len(values))
    ranked = np.argsort(values, kind="stable")
    rest = ranked[FITTED // 2 :]
    evenly = rest[np.linspace(0, len(rest) - 1, FITTED - FITTED // 2).astype(int)]
    return np.sort(np.concatenate([ranked[: FITTED // 2], evenly]))


def refit_at(count: int) -> int:
    """The number of trials that the shape is fitted to when there are so many: every one at first, then ever fewer.

    >>> [refit_at(count) for count in (10, 33, 99, 207)]
    [10, 32, 96, 200]
    """
    stride = 1 if count < 24 else 2 if count < 48 else 4 if count < 100 else 10 if count < 200 else 20
    return count // stride * stride


def believed(shapes: Shapes, tried: Tried, newest: int, draw: np.random.Generator) -> Worth | None:
    """What candidates are worth after these trials; None where nothing was learned yet."""
    features = shapes.encoding.features(tried.codes)
    history = list(tried.history)
    scored = [i for i, one in enumerate(history) if one.losses]
    pending = features[[i for i, one in enumerate(history) if one.state == "running"]]
    limits = kept(shapes, history, features, pending, newest)
    able = [i for i in scored if history[i].state == "done" and history[i].misses == 0]
    if not able:
        return None if limits is None else Improvement(None, 0.0, limits)
    chosen = within(scored, history, newest)
    losses = np.array([history[i].losses for i in chosen], float)
    if len(chosen) < 2:
        return None
    learned = [shapes.scaled(features[chosen], column) for column in losses.T]
    values = np.stack([column for column, _ in learned], axis=1)
    good = np.array([i in set(able) for i in chosen])
    models = [shapes.process(shape, Seen(features[chosen], column), pending) for column, shape in learned]
    if len(models) == 1:
        return Improvement(models[0], float(values[good, 0].min()), limits)
    mixture = draw.dirichlet(np.ones(len(models)))
    floor = values.min(axis=0)
    best = float(chebyshev(values[good] - floor, mixture).min())
    return Scalarised(tuple(models), floor, mixture, best, draw.standard_normal((DRAWS, len(models))), limits)


def within(chosen: Sequence[int], history: Sequence[Past], newest: int) -> list[int]:
    """Of some trials, all or, where there are too many, the best third of the number and the newest."""
    if len(chosen) <= newest:
        return list(chosen)
    place = {one.number: i for i, one in enumerate(history)}
    best = [place[one.number] for one in order([history[i] for i in chosen])[: newest // 3]]
    rest = [i for i in chosen if i not in set(best)]
    return sorted([*best, *rest[len(rest) - (newest - len(best)) :]])


def kept(shapes: Shapes, history: Sequence[Past], features: Array, pending: Array, newest: int) -> Process | None:
    """A model of numbers that are below 0 where limits are kept and nothing fails; None where that is everywhere."""
    judged = [i for i, one in enumerate(history) if one.state in ("failed", "refused") or one.scored]
    if not any(history[i].misses > 0 for i in judged):
        return None
    judged = within(judged, history, newest)
    misses = np.array([history[i].misses for i in judged])
    finite = misses[np.isfinite(misses) & (misses > 0)]
    middle = float(np.median(finite)) if len(finite) else 1.0
    values = np.where(misses > 0, 0.25 + 0.75 * _share(misses, middle), -1.0)
    seen = Seen(features[judged], values)
    return shapes.process(shapes.of(seen), seen, pending)


def _share(misses: Array, middle: float) -> Array:
    """Misses from 0 to 1: infinite ones are 1."""
    return np.where(np.isfinite(misses), 1 - middle / (np.where(np.isfinite(misses), misses, 0.0) + middle), 1.0)


def plain(losses: Array) -> tuple[Array, float]:
    """Losses with mean 0 and variance 1, and the logarithm of how much that has squeezed them, summed."""
    return standard(losses), -len(losses) * math.log(max(float(losses.std()), 1e-300))


def logged(losses: Array) -> tuple[Array, float]:
    """As `plain`, after a logarithm of how far each is from the best: many magnitudes become one."""
    above = losses - losses.min()
    above = above + max(FLOOR * float(np.median(above)), 1e-12 * max(1.0, float(np.abs(losses).max())))
    values = np.log(above)
    found, squeezed = plain(values)
    return found, squeezed - float(values.sum())


def standard(values: Array) -> Array:
    """Values with mean 0 and variance 1; all 0 where they are equal."""
    spread = float(values.std())
    return (
        (values - values.mean()) / spread if spread > 1e-12 * max(1.0, math.fabs(float(values.mean()))) else values * 0
    )
