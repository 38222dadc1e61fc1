"""Tries what is next to the best trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Past, Suggestion
from modelmill.search.past import order
from modelmill.search.population.mixed import movable
from modelmill.search.population.verdict import judged
from modelmill.space import Dimension, Settings, Space

KEY = "local"
TRIES = 60
"""Neighbours of a trial that are looked at; all tried: the trial has none left."""
NARROWEST = 1e-5


class Local(Sampler):
    """Climbs from the best trial over its neighbours, and starts anew elsewhere when it gets no further.

    A neighbour differs in one setting, seldom in more: another option, the next step, a number near by. Numbers move
    by a step that grows with every success and shrinks with every failure. What was tried is tabu, so that where all
    neighbours of the best are known, the climb goes on from the next best, though it is worse. The first climb starts
    from the best of all trials, later ones at random.

    Glover (1989), Tabu search, https://doi.org/10.1287/ijoc.1.3.190; the step after Rechenberg (1973)
    """

    step: Annotated[float, Meta(gt=0, le=1)] = 0.2
    """The first step of numbers, as a part of their range."""
    patience: Annotated[int, Meta(ge=1)] = 30
    """Trials without success after which another climb starts."""
    further: Annotated[float, Meta(ge=0, lt=1)] = 0.25
    """With which chance one more setting is changed."""

    def __call__(self, space: Space) -> Pick:
        """Picks a neighbour that was not tried."""

        def pick(history: History, seed: int) -> Suggestion | None:
            draw = np.random.default_rng(seed)
            climb = self._climb(history)
            tried = {space.key(one.settings) for one in history}
            for parent in climb.ground:
                for _ in range(TRIES):
                    found = self._neighbour(space, parent.settings, climb.step, draw)
                    if space.key(found) not in tried:
                        memo = {"climb": climb.number, "parent": parent.number, "step": climb.step}
                        return Suggestion(found, {KEY: memo})
            start = {"climb": climb.number + bool(climb.ground), "parent": None, "step": self.step}
            return Suggestion(space.random(draw), {KEY: start})

        return pick

    def _climb(self, history: History) -> Climb:
        """Where the present climb stands: its trials say it."""
        ranked = order(history)
        place = {one.number: i for i, one in enumerate(ranked)}
        own = [one for one in history if KEY in one.memo]
        number = max((int(one.memo[KEY]["climb"]) for one in own), default=0)
        step, failures = self.step, 0
        for one in own:
            if one.memo[KEY]["climb"] != number or one.memo[KEY]["parent"] is None or not judged(one):
                continue
            better = place[one.number] < place.get(one.memo[KEY]["parent"], len(place))
            step = min(step * 1.6, 0.5) if better else max(step * 0.85, NARROWEST)
            failures = 0 if better else failures + 1
        if failures >= self.patience:
            return Climb(number + 1, self.step, [])
        ground = [one for one in ranked if number == 0 or one.memo.get(KEY, {}).get("climb") == number]
        return Climb(number, step, ground[: max(self.patience, 5)])

    def _neighbour(self, space: Space, settings: Mapping[str, Any], step: float, draw: np.random.Generator) -> Settings:
        free = [dimension for dimension in space.met(settings) if movable(dimension)]
        if not free:
            return dict(settings)
        changed: Settings = {}
        for i in draw.permutation(len(free)):
            changed[free[i].name] = beside(free[i], settings[free[i].name], step, draw)
            if draw.random() >= self.further:
                break
        return space.complete({**settings, **changed}, draw)


@dataclass(frozen=True)
class Climb:
    """A climb: its number, the step of its numbers, and the trials that it may go on from, best first."""

    number: int
    step: float
    ground: list[Past]


def beside(dimension: Dimension, value: Any, step: float, draw: np.random.Generator) -> Any:
    """Another value: any other category, else one about a step away, at the least the next one.

    >>> beside(Dimension("width", low=1, high=9, integer=True), 4, 1e-3, np.random.default_rng(0)) in (3, 5)
    True
    """
    if dimension.kind == "category":
        others = [option for option in dimension.options if option != value]
        return others[draw.integers(len(others))]
    least = 1 / len(dimension.options) if dimension.options else _stride(dimension, value)
    move = step * draw.standard_normal()
    move = float(np.copysign(max(abs(move), least * 1.001), move))
    unit = dimension.unit(value)
    return dimension.at(unit + move if 0 <= unit + move <= 1 else unit - move)


def _stride(dimension: Dimension, value: Any) -> float:
    """How far the next value of a range with steps is, between 0 and 1; 0 where every number counts."""
    if not dimension.stride:
        return 0.0
    below = max(value - dimension.stride, dimension.low)
    above = min(value + dimension.stride, dimension.top)
    return max(dimension.unit(above) - dimension.unit(value), dimension.unit(value) - dimension.unit(below))
