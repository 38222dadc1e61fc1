"""Limits: whether they are kept, and how long one measures before saying so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelmill.contracts import Measurements
from modelmill.dataset import Dataset
from modelmill.recipe.timing import NOISE
from modelmill.report import Limit
from modelmill.spec import COSTS, FLOORS, KILOBYTES

TIMED = ("latency_ms", "latency_p99_ms", "throughput_rps", "energy_mj", "cpu_seconds")
"""Costs that come out differently each time."""

NEAR = 0.9
"""A cost beyond this share of its limit could break it next time."""

AGAIN = 2
"""How often what one run leaves in doubt is measured again."""


def limits(asked: Mapping[str, float], found: Mapping[str, float]) -> dict[str, Limit]:
    """Each limit with what came out; costs are ceilings, `throughput_rps` and metrics where more is better are floors.

    >>> limits({"size_kb": 50}, {"size_bytes": 49_000})["size_kb"].kept
    True
    """
    return {
        name: Limit(limit, value_of(name, found), _kept(name, limit, value_of(name, found)))
        for name, limit in asked.items()
    }


def at_length(models: Sequence[bytes], data: Dataset, asked: Mapping[str, float]) -> Measurements:
    """What models cost, all of a report, in interleaved runs; the first is the one that has to keep the limits.

    Where one run says little, two more are made. That is where a timed cost keeps its limit narrowly: the run counts
    in which it came out worst. And where the first looks slower than the last by less than the noise: the middle one.
    """
    from modelmill.evaluate import judge

    found = judge.measure(models, data, judge.REPORTED)
    for cost in judge.FULL:
        near = [
            name
            for name in cost.gives
            if name in asked and name in TIMED and _narrow(name, asked[name], found[0][name])
        ]
        if not near and not ("latency_ms" in cost.gives and _doubtful(found[0])):
            continue
        runs = [found, *(cost(models, data) for _ in range(AGAIN))]
        if near:
            counts = max(runs, key=lambda run: max(_share(name, asked[name], run[0][name]) for name in near))
        else:
            counts = sorted(runs, key=lambda run: run[0]["latency_ratio"])[AGAIN // 2]
        for one, more in zip(found, counts, strict=True):
            one.update(more)
    return found


def value_of(name: str, found: Mapping[str, float]) -> float:
    """A cost or metric by the name that a goal knows it by."""
    if name in KILOBYTES and name not in found:
        return found[KILOBYTES[name]] / 1000
    return found[name]


def _doubtful(costs: Mapping[str, float]) -> bool:
    return costs.get("latency_ratio_low", 0.0) <= NOISE < costs.get("latency_ratio", 0.0)


def _narrow(name: str, limit: float, value: float) -> bool:
    return NEAR < _share(name, limit, value) <= 1


def _share(name: str, limit: float, value: float) -> float:
    """How much of what a limit allows is used up; above 1 it is broken."""
    if name in FLOORS:
        return limit / max(value, 1e-12)
    return value / limit if limit > 0 else 2.0


def _kept(name: str, limit: float, value: float) -> bool:
    from modelmill.metrics.score import better

    floor = name in FLOORS or (name not in COSTS and better(name) == "higher")
    return value >= limit if floor else value <= limit
