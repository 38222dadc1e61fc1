"""Searches one part of the space at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Past, Suggestion
from modelmill.search.past import order
from modelmill.search.population.verdict import judged
from modelmill.search.surrogate.acquire import Worth, varied
from modelmill.search.surrogate.encode import Encoding
from modelmill.search.surrogate.promising import Shapes, Tried, believed, remote
from modelmill.search.surrogate.threads import one_thread
from modelmill.space import Space

Array = np.ndarray[Any, Any]

KEY = "subregion"
NARROWEST = 0.02
NEWEST = 200
"""Trials that the model rests on at most."""


class Subregion(Sampler):
    """A random sub-region at a time: of several, the one that promises most, is searched for some trials.

    A region is a part of each range and some options of each category, around one of the best trials or anywhere. What
    it promises is what a Gaussian process expects of its better half. Within it the most promising candidate is picked.
    After a region that held a new best the next ones are wider, after others narrower, and wide again at last. A
    branch's own settings go along with the others: where they do not exist they are not narrowed.

    Eriksson, Pearce, Gardner, Turner, Poloczek (2019), https://arxiv.org/abs/1910.01739; the choice of regions in the
    manner of Wang, Fonseca, Tian (2020), https://arxiv.org/abs/2007.00708
    """

    startup: Annotated[int, Meta(ge=2)] = 8
    """Trials spread over the whole space at first."""
    trials: Annotated[int, Meta(ge=1)] = 8
    """Trials in one region."""
    regions: Annotated[int, Meta(ge=1)] = 12
    """Random regions that are compared."""
    width: Annotated[float, Meta(gt=0, le=1)] = 0.6
    """The part of each range that the first region covers."""

    def __call__(self, space: Space) -> Pick:
        """Picks within the region that the last trials belong to, or within a new one."""
        encoding = Encoding(space)
        shapes = Shapes(encoding)

        def pick(history: History, seed: int) -> Suggestion:
            draw = np.random.default_rng(seed)
            tried = Tried(encoding, history)
            if not encoding.dimensions:
                return Suggestion(space.random(draw))
            if len(history) < self.startup:
                return Suggestion(encoding.settings(remote(encoding, tried, draw), draw))
            with one_thread():
                worth = believed(shapes, tried, NEWEST, draw)
                if worth is None:
                    return Suggestion(encoding.settings(remote(encoding, tried, draw), draw))
                region = self._open(history) or self._new(encoding, worth, tried, draw)
                code = _within(encoding, region, worth, tried, draw)
            memo = {"region": region.number, "width": region.width, "low": region.low, "high": region.high}
            return Suggestion(encoding.settings(code, draw), {KEY: memo})

        return pick

    def _open(self, history: History) -> Region | None:
        """The region of the last trials, as long as it has trials left."""
        own = [one.memo[KEY] for one in history if KEY in one.memo]
        if not own:
            return None
        last = max(own, key=lambda memo: int(memo["region"]))
        if sum(memo["region"] == last["region"] for memo in own) >= self.trials:
            return None
        return Region(last["region"], last["width"], last["low"], last["high"])

    def _new(self, encoding: Encoding, worth: Worth, tried: Tried, draw: np.random.Generator) -> Region:
        """Of random regions, the one whose better half is worth most."""
        number, width = self._next(tried.history)
        best = encoding.filled(tried.best(5), draw)
        found = []
        for i in range(self.regions):
            middle = best[i % len(best)] if len(best) and i % 3 else encoding.random(1, draw)[0]
            region = _around(encoding, middle, number, width, draw)
            codes = encoding.snapped(_inside(encoding, region, encoding.random(40, draw)))
            found.append((float(np.sort(worth.at(encoding.features(codes)))[20:].mean()), -i, region))
        return max(found)[2]

    def _next(self, history: History) -> tuple[int, float]:
        """The number and the width of the next region."""
        own = [one for one in history if KEY in one.memo]
        if not own:
            return 0, self.width
        last = max(int(one.memo[KEY]["region"]) for one in own)
        members = [one for one in own if one.memo[KEY]["region"] == last]
        width = float(members[0].memo[KEY]["width"])
        wider = min(width * 1.5, 1.0) if _won(members, history) else width * 0.7
        return last + 1, wider if wider >= NARROWEST else self.width


@dataclass(frozen=True, order=True)
class Region:
    """A box: for every dimension the ends of a part of its range, or of its options in an order of their own."""

    number: int
    width: float
    low: list[float]
    high: list[float]


def _won(members: list[Past], history: History) -> bool:
    """Whether a region holds the best of all trials so far."""
    best = order(history)[:1]
    return bool(best) and any(one.number == best[0].number and judged(one) for one in members)


def _around(encoding: Encoding, middle: Array, number: int, width: float, draw: np.random.Generator) -> Region:
    """A region around a full code; a category keeps its option, or in a wide region all of them."""
    low, high = np.zeros(len(middle)), np.ones(len(middle))
    for i, count in enumerate(encoding.counts):
        if count:
            free = draw.random() < width
            low[i], high[i] = (0.0, 1.0) if free else (middle[i] / count, (middle[i] + 1) / count)
        else:
            side = width * draw.uniform(0.5, 1.0)
            start = np.clip(middle[i] - side * draw.random(), 0.0, 1.0 - side)
            low[i], high[i] = start, start + side
    return Region(number, width, low.tolist(), high.tolist())


def _inside(encoding: Encoding, region: Region, codes: Array) -> Array:
    """Full codes squeezed into a region."""
    low, high = np.array(region.low), np.array(region.high)
    counts = np.maximum(encoding.counts, 1)
    units = np.where(encoding.counts > 0, (codes + 0.5) / counts, codes)
    return encoding.spread(np.clip(low + units * (high - low), 0.0, 1 - 1e-12))


def _within(encoding: Encoding, region: Region, worth: Worth, tried: Tried, draw: np.random.Generator) -> Array:
    """The most promising code of a region that was not tried; one of anywhere where none is left in it."""
    codes = _inside(encoding, region, encoding.random(400, draw))
    for _ in range(4):
        snapped = encoding.snapped(codes)
        snapped = snapped[~tried.known(snapped)]
        if not len(snapped):
            return remote(encoding, tried, draw)
        ranked = np.argsort(-worth.at(encoding.features(snapped)), kind="stable")
        top = snapped[ranked[:4]]
        more = varied(encoding, encoding.filled(top, draw), 60, draw)
        codes = np.concatenate([top, more[_holds(encoding, region, more)]])
        codes = encoding.filled(codes, draw)
    return np.asarray(top[0])


def _holds(encoding: Encoding, region: Region, codes: Array) -> Array:
    """Which full codes lie in a region."""
    units = np.where(encoding.counts > 0, (codes + 0.5) / np.maximum(encoding.counts, 1), codes)
    return np.asarray(((units >= np.array(region.low)) & (units <= np.array(region.high))).all(axis=1))
