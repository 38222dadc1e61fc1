"""Which candidates are good enough, which of them is best, and which none of the others beats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from modelmill.spec import COSTS, FLOORS, KILOBYTES, Goal
from modelmill.trial import Trial

Point = Sequence[float]
"""A candidate's objectives, all to be minimized."""


def value(trial: Trial, name: str) -> float:
    """A metric or cost of a trial; NaN where it was not found out.

    >>> value(Trial(0, "done", {}, costs={"size_bytes": 2500}), "size_kb")
    2.5
    """
    found = trial.metrics.get(name, trial.costs.get(name, math.nan))
    if name in KILOBYTES and math.isnan(found):
        found = trial.costs.get(KILOBYTES[name], math.nan) / 1000
    return found


def higher_is_better(name: str, goal: Goal) -> bool:
    """Whether more of a metric or cost is better: as the goal says, else as the metric itself does."""
    if name in goal.maximize or name in goal.minimize:
        return name in goal.maximize
    if name in COSTS or name == "size_bytes":
        return name in FLOORS
    from modelmill.method import find

    return bool(find("metrics", name.rpartition(".")[2]).better == "higher")


def violation(trial: Trial, goal: Goal) -> dict[str, float]:
    """Limit: by which part of it a trial misses it; 0 where it is kept, infinite where the value is unknown.

    >>> trial = Trial(0, "done", {}, costs={"latency_ms": 1.5, "throughput_rps": 80})
    >>> violation(trial, Goal(limit={"latency_ms": 1, "throughput_rps": 100}))
    {'latency_ms': 0.5, 'throughput_rps': 0.2}
    """
    return {
        name: _excess(value(trial, name), limit, higher_is_better(name, goal)) for name, limit in goal.limit.items()
    }


def _excess(found: float, limit: float, floor: bool) -> float:
    if math.isnan(found):
        return math.inf
    over = limit - found if floor else found - limit
    return max(0.0, over / (abs(limit) or 1.0))


def feasible(trial: Trial, goal: Goal) -> bool:
    """Whether a trial is done and keeps every limit."""
    return trial.state == "done" and not any(violation(trial, goal).values())


def reached(trial: Trial, goal: Goal) -> bool:
    """Whether a trial keeps the limits and is as good as the goal asks to reach; False where it asks for nothing."""
    return bool(goal.reach) and feasible(trial, goal) and not any(_short(trial, goal).values())


def _short(trial: Trial, goal: Goal) -> dict[str, float]:
    return {name: _excess(value(trial, name), want, higher_is_better(name, goal)) for name, want in goal.reach.items()}


def best(trials: Iterable[Trial], goal: Goal, tolerance: float = 0.0) -> Trial | None:
    """The winner: of the trials that keep the limits, the smallest of those as good as the best; None if there is none.

    As good are, once a trial reaches what the goal asks to reach, all that do; else those whose first objective is
    within `tolerance` of the best. Among them the fewest bytes win (those in the store first, where the goal names
    them), then the shortest latency where the goal names it (else times decide nothing, and the same seed gives the
    same winner), then the quality.
    """
    able = [trial for trial in trials if feasible(trial, goal)]
    if not able:
        return None
    enough = [trial for trial in able if reached(trial, goal)] or _near_best(able, goal, tolerance)
    asked = {*goal.limit, *(name for name, _ in goal.objectives)}
    stored, timed = "stored_kb" in asked, {"latency_ms", "latency_p99_ms"} & asked
    names = [*(["stored_kb"] if stored else []), "size_bytes", *(["latency_ms"] if timed else [])]
    return min(enough, key=lambda trial: (*(_cost(trial, name) for name in names), _key(trial, goal)))


def _near_best(trials: list[Trial], goal: Goal, tolerance: float) -> list[Trial]:
    top = min(objectives(trial, goal)[0] for trial in trials)
    return [trial for trial in trials if objectives(trial, goal)[0] <= top + tolerance]


def _cost(trial: Trial, name: str) -> float:
    found = value(trial, name)
    return math.inf if math.isnan(found) else found


def _key(trial: Trial, goal: Goal) -> tuple[float, ...]:
    return (*objectives(trial, goal), trial.number)


def objectives(trial: Trial, goal: Goal) -> tuple[float, ...]:
    """The objectives of a trial, signed so that lower is better; infinite where unknown."""
    return tuple(_signed(trial, name, way) for name, way in goal.objectives)


def _signed(trial: Trial, name: str, way: str) -> float:
    found = value(trial, name)
    if math.isnan(found):
        return math.inf
    return -found if way == "maximize" else found


def nearest(trials: Iterable[Trial], goal: Goal) -> tuple[Trial, dict[str, float]] | None:
    """The trial that misses the limits least, and for each limit that it misses by how much, in its unit.

    Where none was finished, those that were refused for what their untrained graph costs.
    """
    trials = list(trials)
    done = [trial for trial in trials if trial.state == "done"]
    done = done or [trial for trial in trials if trial.state == "refused" and trial.costs]
    if not done:
        return None
    trial = min(done, key=lambda trial: (sum(violation(trial, goal).values()), _key(trial, goal)))
    missed = [name for name, excess in violation(trial, goal).items() if 0 < excess < math.inf]
    return trial, {name: abs(value(trial, name) - goal.limit[name]) for name in missed}


def front(trials: Iterable[Trial], goal: Goal) -> list[Trial]:
    """The trials that keep the limits and that no other beats in everything that counts, in the order given.

    What counts: the objectives and the limited costs; where that is one thing alone, the bytes as well.
    """
    able = [trial for trial in trials if feasible(trial, goal)]
    points = [_everything(trial, goal) for trial in able]
    return [trial for trial, point in zip(able, points, strict=True) if not _beaten(point, points)]


def _everything(trial: Trial, goal: Goal) -> tuple[float, ...]:
    named = dict(goal.objectives)
    for name in goal.limit:
        named.setdefault(name, "maximize" if higher_is_better(name, goal) else "minimize")
    if len(named) == 1:
        named.setdefault("size_bytes", "minimize")
    return tuple(_signed(trial, name, way) for name, way in named.items())


def _beaten(point: Point, others: Iterable[Point]) -> bool:
    return any(dominates(other, point) for other in others)


def dominates(first: Point, second: Point) -> bool:
    """Whether one point is nowhere worse than another and somewhere better; lower is better.

    >>> dominates((1, 2), (1, 3)), dominates((1, 2), (2, 1))
    (True, False)
    """
    pairs = list(zip(first, second, strict=True))
    return all(one <= two for one, two in pairs) and any(one < two for one, two in pairs)


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """The volume between some points and a reference that is worse than all of them; lower is better.

    Exact in any dimension, by slices along the last axis: meant for up to three.

    >>> hypervolume([(1, 2), (2, 1)], reference=(3, 3))
    3.0
    """
    inside = [tuple(point) for point in points if all(x < r for x, r in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - min(point[0] for point in inside))
    levels = [*sorted({point[-1] for point in inside}), reference[-1]]
    return sum(
        (above - level) * hypervolume([p[:-1] for p in inside if p[-1] <= level], reference[:-1])
        for level, above in pairwise(levels)
    )
