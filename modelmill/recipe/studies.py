"""What a search is handed: the study of a run, its first trials, and how its candidates are measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from modelmill.method import decode, find
from modelmill.recipe.foresee import foresee
from modelmill.recipe.grow import same
from modelmill.recipe.job import Job
from modelmill.recipe.limits import TIMED
from modelmill.recipe.look import Look
from modelmill.recipe.timing import Stopwatch, dropped
from modelmill.search.search import Study
from modelmill.space import Dimension
from modelmill.spec import COSTS, Budget, Spec, space


def study(seen: Look, left: Budget, grace_s: float) -> Study:
    """What to look for, where, and for how long."""
    spec = seen.job.spec
    return Study(
        walk=space(spec, seen.kind),
        goal=seen.goal,
        sampler=decode("sampler", spec.search["sampler"]),
        stopper=decode("stopper", spec.search["stopper"]) if spec.search.get("stopper") else None,
        generator=decode("generator", spec.search["generator"]) if spec.search.get("generator") else None,
        same=lambda picks: same(seen.job, picks),
        seed=spec.seed,
        budget=left,
        first=recipes(seen) if seen.job.base else openings(seen.job),
        grace_s=grace_s,
    )


def openings(job: Job) -> list[dict[str, Any]]:
    """The first trials: every body with its defaults, so that a short budget has tried them all.

    Where such a one would break a limit that is not timed, it has the last step of compression that keeps it. There are
    none where a sampler goes through the space cell by cell, or a generator draws the architecture.
    """
    spec = job.spec
    if spec.search.get("generator") or find("sampler", spec.search["sampler"]["method"]).exact:
        return []
    options = spec.arch.get("any", [])
    found = [{"arch": option["method"]} for option in options] if len(options) > 1 else [{}]
    limits = {name: limit for name, limit in spec.goal.limit.items() if name not in TIMED}
    held = dataclasses.replace(
        job, spec=msgspec.structs.replace(spec, goal=msgspec.structs.replace(spec.goal, limit=limits))
    )
    return [_kept(held, picks) for picks in found] if limits else found


def _kept(job: Job, picks: dict[str, Any]) -> dict[str, Any]:
    if not foresee(job, picks).refusal:
        return picks
    steps = reversed(optional(job))
    return next((more for one in steps if not foresee(job, more := {**picks, one.name: True}).refusal), picks)


def recipes(seen: Look) -> list[dict[str, Any]]:
    """The first trials where a version is compressed: no optional step, the last alone, all but it, and all."""
    if find("sampler", seen.job.spec.search["sampler"]["method"]).exact:
        return []
    steps = [dimension.name for dimension in optional(seen.job)]
    chosen = [[], steps[-1:], steps[:-1], steps]
    return [dict.fromkeys(names, True) for number, names in enumerate(chosen) if names not in chosen[:number]]


def optional(job: Job) -> list[Dimension]:
    """Which steps may be left out, in their order."""
    found: list[Dimension] = []

    def choose(dimension: Dimension) -> Any:
        if dimension.options == (False, True) and dimension.default is False:
            found.append(dimension)
            return True
        return dimension.options[0] if dimension.options else dimension.low

    space(job.spec, job.live.kind if job.live else None)(choose)
    return found


def judged(seen: Look, stopwatch: Stopwatch, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The costs of a candidate, measured while the workers pause.

    Where a version is compressed it is measured beside that, and its steps are timed: one that turns out to be slower
    is left out, and the candidate made again.
    """
    from modelmill.evaluate.judge import measure

    job = seen.job
    wanted = list(dict.fromkeys(["latency_ms", "latency_p99_ms", "size_bytes", *limited(job.spec)]))
    if job.base is None:
        return measure([result["artifact"]], job.splits.valid, wanted, quick=True)[0]
    steps = stopwatch.steps(result["steps"])
    if len(found := dropped(steps)) > len(dropped(result["steps"])):
        return {"again": {"slow": found}}
    costs = measure([result["artifact"], job.base.graph], job.splits.valid, wanted, quick=True)[0]
    middle, low, high = stopwatch.beside(job.base.graph, result["artifact"])
    return {**costs, "latency_ratio": middle, "latency_ratio_low": low, "latency_ratio_high": high, "steps": steps}


def limited(spec: Spec) -> list[str]:
    """The costs that a goal names, beside those that are always measured."""
    named = [*spec.goal.limit, *(name for name, _ in spec.goal.objectives)]
    return [name for name in named if name in COSTS]
