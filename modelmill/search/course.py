"""Says how a search came on, trial by trial: which trials moved it on, and how much the front had gained by then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from modelmill.search.chain import KEY, Chains, statistics
from modelmill.search.pareto import Point, dominates, feasible, front, hypervolume, objectives
from modelmill.search.past import past
from modelmill.spec import Goal
from modelmill.trial import Trial

MOST_OBJECTIVES = 3
"""Beyond so many the volume takes too long to tell."""

BLOCK = 50
"""Trials that are compared with one another at a time."""

AIR = 0.1
"""How far beyond the worst values of the box its reference point lies."""


def leaders(trials: Sequence[Trial], goal: Goal) -> list[Trial]:
    """What `pareto.front` gives, in a fraction of the time where trials are many."""
    found: list[Trial] = []
    for i in range(0, len(trials), BLOCK):
        found = front([*found, *trials[i : i + BLOCK]], goal)
    return found


def improvements(trials: Iterable[Trial], goal: Goal) -> list[int]:
    """The numbers of the trials that keep the limits and that nothing before them equals or beats in the objectives.

    >>> scores = {0: 0.8, 1: 0.7, 2: 0.9}
    >>> trials = [Trial(number, "done", {}, metrics={"accuracy": score}) for number, score in scores.items()]
    >>> improvements(trials, Goal(maximize=("accuracy",)))
    [0, 2]
    """
    return [trial.number for trial, _ in _moves(trials, goal)]


def volumes(trials: Sequence[Trial], goal: Goal) -> list[tuple[int, float]]:
    """(trial, the part of the box of objectives that the front dominates from there on); empty for one objective.

    The box reaches from the best to just beyond the worst value of each objective among all trials that keep the
    limits; an objective that differs sixfold or more counts by its logarithm. So the figure is of one search alone:
    those of two searches cannot be compared.
    """
    if not 2 <= len(goal.objectives) <= MOST_OBJECTIVES:
        return []
    able = [objectives(trial, goal) for trial in trials if feasible(trial, goal)]
    if not able:
        return []
    scales = [_Scale(values) for values in zip(*able, strict=True)]
    reference = (1 + AIR,) * len(scales)
    whole = (1 + AIR) ** len(scales)
    found, kept, volume = [], list[Point](), 0.0
    for trial, point in _moves(trials, goal):
        place = tuple(scale.at(value) for scale, value in zip(scales, point, strict=True))
        volume += _gain(place, kept, reference)
        kept = [*(other for other in kept if not dominates(place, other)), place]
        found.append((trial.number, round(volume / whole, 6)))
    return found


def walked(trials: Iterable[Trial], goal: Goal) -> Chains | None:
    """What the chains of an annealed search did; None where no trial was of a chain."""
    history = [past(trial, goal) for trial in trials]
    return statistics(history) if any(KEY in one.memo for one in history) else None


def _moves(trials: Iterable[Trial], goal: Goal) -> list[tuple[Trial, tuple[float, ...]]]:
    """The trials that moved the search on, each with its objectives."""
    found: list[tuple[Trial, tuple[float, ...]]] = []
    kept: list[tuple[float, ...]] = []
    for trial in trials:
        if not feasible(trial, goal):
            continue
        point = objectives(trial, goal)
        if any(other == point or dominates(other, point) for other in kept):
            continue
        kept = [*(other for other in kept if not dominates(point, other)), point]
        found.append((trial, point))
    return found


def _gain(place: Point, kept: Iterable[Point], reference: Point) -> float:
    """What a point adds to the volume: its own box without what the front has of it already."""
    shadows = {tuple(max(pair) for pair in zip(place, other, strict=True)) for other in kept}
    least = [one for one in shadows if not any(dominates(other, one) for other in shadows)]
    return math.prod(r - p for r, p in zip(reference, place, strict=True)) - hypervolume(least, reference)


class _Scale:
    """Lays the values of one objective from 0, the best, to 1, the worst."""

    def __init__(self, values: Sequence[float]) -> None:
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        self._log = min(finite) > 0 and max(finite) >= 6 * min(finite)
        self._low, self._high = self._of(min(finite)), self._of(max(finite))

    def at(self, value: float) -> float:
        return (self._of(value) - self._low) / (self._high - self._low) if self._high > self._low else 0.0

    def _of(self, value: float) -> float:
        return math.log(value) if self._log else value
