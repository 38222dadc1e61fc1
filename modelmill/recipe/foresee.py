"""What is known of a candidate before it is trained: what its untrained graph costs, and how much work a row is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from modelmill.dataset import Dataset
from modelmill.method import find, settings
from modelmill.recipe.grow import picked_spec, untrained
from modelmill.recipe.job import Job
from modelmill.spec import Spec

COSTS = ("size_bytes", "latency_ms", "macs")
"""What an untrained graph shows."""


class Foreseen(msgspec.Struct, frozen=True):
    """What is known of a candidate before its training."""

    costs: dict[str, float] = {}
    """The least that it costs, of what the goal names: its steps of compression may still take that much off."""
    refusal: str = ""
    """Why it cannot keep its limits; empty where it may."""
    work: float = 0.0
    """What one row costs in training: multiply-adds of the untrained graph; features times trees for estimators."""


def foresee(job: Job, picks: Mapping[str, Any]) -> Foreseen:
    """Build the candidate untrained, and see what that shows; nothing where only training shows it."""
    picked = picked_spec(job, picks)
    if not picked.arch:
        return Foreseen()
    if find("arch", picked.arch["method"]).body != "network":
        return Foreseen(work=effort(job, picked))
    from modelmill.evaluate.costs.macs import count
    from modelmill.graph.export import export

    graph = export(untrained(job, picked, job.splits.train, 0), job.task)
    macs = float(count(graph))
    share = smallest_share(picked.compress or ())
    known = named(job.spec)
    costs = {"size_bytes": float(len(graph)), "macs": macs}
    if "latency_ms" in known:
        costs["latency_ms"] = shortest_ms(graph, job.splits.train)
    costs = {name: share * costs[name] for name in COSTS if name in known}
    return Foreseen(costs, refusal(job.spec, costs), work=macs)


def named(spec: Spec) -> set[str]:
    """The costs that a goal names and that an untrained graph shows; `size_kb` is that of `size_bytes`."""
    goal = spec.goal
    asked = {*goal.limit, *(name for name, _ in goal.objectives)}
    return {name for name in COSTS if name in asked or (name == "size_bytes" and "size_kb" in asked)}


def refusal(spec: Spec, costs: Mapping[str, float]) -> str:
    """Why a candidate cannot keep the limits, given the least that it costs."""
    found = {**costs, "size_kb": costs.get("size_bytes", 0.0) / 1000}
    limits = {name: limit for name, limit in spec.goal.limit.items() if name in found}
    over = [f"{name} {found[name]:.3g} (limit {limit:g})" for name, limit in limits.items() if found[name] > limit]
    return f"at the least it costs {', '.join(over)}, as its untrained graph shows" if over else ""


def effort(job: Job, picked: Spec) -> float:
    """Features times trees, or times iterations: what one row costs an estimator, as far as settings tell."""
    features = sum(int(np.prod(column.shape[1:])) for column in job.splits.train.columns.values())
    kind = find("arch", picked.arch["method"])
    rounds = [
        float(picked.arch.get(key, getattr(kind, key, 1))) for key in ("trees", "iterations") if key in settings(kind)
    ]
    return features * (rounds[0] if rounds else 1.0)


def shortest_ms(graph: bytes, data: Dataset, runs: int = 20) -> float:
    """The shortest of some runs of one row: no faster does the graph get, however busy the machine is."""
    from modelmill.runtime.rows import from_dataset
    from modelmill.runtime.session import Session

    session = Session(graph)
    row = from_dataset(data.take(np.arange(1)))
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        session.run(row)
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def smallest_share(steps: Sequence[Mapping[str, Any]]) -> float:
    """The share of its bytes that a graph can at best keep after the steps: a bound, not an estimate."""
    share = 1.0
    for step in steps:
        family = step["method"].partition(".")[0]
        if family == "quantize":
            share *= _of_bits(step)
        elif family in ("share", "factor") or step["method"] == "input.prepare":
            share = 0.0
        elif family == "prune":
            share *= _of_cuts(step)
        elif family == "distill":
            share *= _of_student(step)
        elif step["method"] == "input.downsample":
            share /= float(step.get("factor", 2)) ** 2
    return share


def _of_cuts(step: Mapping[str, Any]) -> float:
    """The share of the weights that pruning can leave at the least: where layers lose unequal shares, it is the cap's.

    >>> _of_cuts({"method": "prune.magnitude", "ratio": 0.5}), _of_cuts({"method": "prune.blocks", "ratio": 0.5})
    (0.25, 0.0)
    >>> round(_of_cuts({"method": "prune.taylor", "ratio": 0.5, "scope": "global"}), 6)
    0.01
    """
    if step["method"] == "prune.blocks":
        return 0.0
    cls = find("compress", step["method"])
    capped = "ratio" not in settings(cls) or step.get("scope") == "global"
    gone = step.get("most", getattr(cls, "most", 1.0)) if capped else step.get("ratio", getattr(cls, "ratio", 1.0))
    return (1 - float(gone)) ** 2


def _of_bits(step: Mapping[str, Any]) -> float:
    """The share of 32 bits that a weight can come to: what the step says, or its default; a few nodes may take 4."""
    cls = find("compress", step["method"])
    bits = step.get("bits", getattr(cls, "bits", 4 if step["method"] == "quantize.mixed" else 8))
    return (4 if float(bits) <= 4 else 8) / 32


def _of_student(step: Mapping[str, Any]) -> float:
    """The share of a model that its student can be; nothing where the size of the model says nothing of it."""
    cls = find("compress", step["method"])
    if cls.gives == "estimator" or step["method"] == "distill.filter":
        return 0.0
    ratio, every = (float(step.get(name, getattr(cls, name, 1.0))) for name in ("ratio", "every"))
    return ratio**2 / every
