"""Trials as samplers and stoppers see them: losses, missed limits and curves, and an order from best to worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelmill.history import Curve, History, Past
from modelmill.search.pareto import objectives, violation
from modelmill.spec import Goal
from modelmill.trial import Point, Trial

Array = np.ndarray[Any, Any]


def past(trial: Trial, goal: Goal) -> Past:
    """A trial as a sampler sees it."""
    return Past(
        trial.number,
        trial.settings,
        trial.state,
        losses=_losses(trial, goal),
        misses=_misses(trial, goal),
        work=trial.work,
        memo=trial.memo,
        gradients=trial.gradients,
        like=trial.like,
    )


def _losses(trial: Trial, goal: Goal) -> tuple[float, ...]:
    """The objectives of a trial that is done, or what a stopped one had reached; empty where one is unknown."""
    if trial.state == "done":
        found = objectives(trial, goal)
    elif trial.state == "stopped" and (points := _points(trial, goal)):
        found = objectives(_as_of(trial, points[-1]), goal)
    else:
        return ()
    return found if all(math.isfinite(loss) for loss in found) else ()


def _misses(trial: Trial, goal: Goal) -> float:
    if trial.state in ("failed", "refused"):
        return math.inf
    return sum(violation(trial, goal).values()) if trial.state == "done" else 0.0


def curve(trial: Trial, goal: Goal) -> Curve:
    """The course of a trial for a stopper: the points at which its quality is known.

    The last point of a finished one is what came out, with all of its folds finished: a holdout is one. What retrains
    after the training counts its steps anew, and is left out.
    """
    points = _points(trial, goal)
    at = [(point.folds, point.step) for point in points]
    standing = [_as_of(trial, point) for point in points]
    if trial.state == "done":
        at.append((at[-1][0] + 1 if at else 1, 0))
        standing.append(trial)
    misses = [violation(one, goal) for one in standing]
    return Curve(
        trial.number,
        at=tuple(at),
        losses=tuple(_known(objectives(one, goal)) for one in standing),
        misses=tuple(sum(miss for miss in found.values() if miss < math.inf) for found in misses),
        ended=trial.state != "running",
        kept=trial.state == "done" and not any(violation(trial, goal).values()),
    )


def _points(trial: Trial, goal: Goal) -> list[Point]:
    """The points of a curve that tell of the objectives, each later than the one before."""
    named = [f"valid_{name}" for name, _ in goal.objectives]
    found: list[Point] = []
    for point in trial.curve:
        later = not found or (found[-1].folds, found[-1].step) < (point.folds, point.step)
        if later and any(name in point.values for name in named):
            found.append(point)
    return found


def _known(losses: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(loss if math.isfinite(loss) else math.nan for loss in losses)


def _as_of(trial: Trial, point: Point) -> Trial:
    """The trial as if it had ended at a point of its curve."""
    values = {name.removeprefix("valid_"): value for name, value in point.values.items() if name.startswith("valid_")}
    return Trial(trial.number, "done", {}, metrics=values, costs=trial.foreseen or trial.costs)


def order(history: History) -> list[Past]:
    """The trials that have a verdict, best first.

    First those that keep the limits, by their loss, with several objectives by how many fronts lie before theirs and
    then by how much room there is around them; then those that were stopped, by what they had reached, then those that
    miss limits, by how much, and last those that failed or were refused.
    """
    able = [one for one in history if one.scored and one.misses == 0]
    stopped = [one for one in history if one.state == "stopped" and one.losses]
    missing = sorted((one for one in history if one.scored and one.misses > 0), key=lambda one: one.misses)
    lost = [one for one in history if one.state in ("failed", "refused") or (one.state == "stopped" and not one.losses)]
    return [*_by_loss(able), *_by_loss(stopped), *missing, *lost]


def scores(history: History) -> Array:
    """(trials,) one number a trial, lower is better, in the order of the history; NaN for one without a verdict.

    With one objective the loss itself for trials that keep the limits; all others come after the worst of them, in
    their order, by less than the spread of the good ones. With several objectives the place in the order, as a share.
    """
    ranked = order(history)
    place = {one.number: i for i, one in enumerate(ranked)}
    able = [one for one in ranked if one.scored and one.misses == 0]
    if not able or len(able[0].losses) > 1:
        top = max(len(ranked) - 1, 1)
        return np.array([place[one.number] / top if one.number in place else math.nan for one in history])
    losses = {one.number: one.losses[0] for one in able}
    worst, spread = able[-1].losses[0], max(able[-1].losses[0] - able[0].losses[0], 1e-9)
    behind = max(len(ranked) - len(able), 1)
    for i, one in enumerate(ranked[len(able) :]):
        losses[one.number] = worst + spread * (i + 1) / behind
    return np.array([losses.get(one.number, math.nan) for one in history])


def _by_loss(trials: Sequence[Past]) -> list[Past]:
    if not trials or len(trials[0].losses) == 1:
        return sorted(trials, key=lambda one: (one.losses, one.number))
    points = [one.losses for one in trials]
    found: list[Past] = []
    for front in fronts(points):
        room = crowding([points[i] for i in front])
        found += [trials[i] for _, i in sorted(zip((-r for r in room), front, strict=True))]
    return found


def fronts(points: Sequence[Sequence[float]]) -> list[list[int]]:
    """The indices of points in layers: the first is beaten by none, the next by the first alone, and so on.

    >>> fronts([(1, 2), (2, 1), (2, 2), (3, 3)])
    [[0, 1], [2], [3]]

    Deb et al. (2002), https://doi.org/10.1109/4235.996017
    """
    values = np.asarray(points, float).reshape(len(points), -1)
    beats = _beats(values)
    beaten_by = beats.sum(axis=0)
    left = np.ones(len(values), bool)
    found: list[list[int]] = []
    while left.any():
        layer = left & (beaten_by == 0)
        found.append([int(i) for i in np.flatnonzero(layer)])
        beaten_by = beaten_by - beats[layer].sum(axis=0)
        left &= ~layer
    return found


def _beats(values: Array) -> Array:
    """(points, points) whether the one of the row is nowhere worse than that of the column, and somewhere better."""
    nowhere_worse = np.ones((len(values), len(values)), bool)
    somewhere_better = np.zeros((len(values), len(values)), bool)
    for axis in values.T:
        nowhere_worse &= axis[:, None] <= axis[None, :]
        somewhere_better |= axis[:, None] < axis[None, :]
    return nowhere_worse & somewhere_better


def crowding(points: Sequence[Sequence[float]]) -> list[float]:
    """The room around each point of a front: the sides of the box that its neighbours leave it; infinite at the ends.

    Deb et al. (2002), https://doi.org/10.1109/4235.996017
    """
    room = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        ranked = sorted(range(len(points)), key=lambda i: points[i][axis])
        width = points[ranked[-1]][axis] - points[ranked[0]][axis] or 1.0
        room[ranked[0]] = room[ranked[-1]] = math.inf
        for before, i, after in zip(ranked, ranked[1:], ranked[2:], strict=False):
            room[i] += (points[after][axis] - points[before][axis]) / width
    return room
