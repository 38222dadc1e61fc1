"""What a search is handed: the study of a run, its first trials, and how its candidates are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelmill.method import decode, find
from modelmill.model import Kind
from modelmill.recipe.grow import same
from modelmill.recipe.look import Look
from modelmill.recipe.timing import Stopwatch, dropped
from modelmill.search.search import Study
from modelmill.space import Dimension
from modelmill.spec import COSTS, KILOBYTES, Budget, Spec, space


def study(seen: Look, left: Budget, grace_s: float) -> Study:
    """What to look for, where, and for how long."""
    spec = seen.job.spec
    first = recipes(seen) if seen.job.base else openings(spec)
    return Study(
        walk=space(spec, seen.kind),
        goal=seen.goal,
        sampler=decode("sampler", spec.search["sampler"]),
        stopper=decode("stopper", spec.search["stopper"]) if spec.search.get("stopper") else None,
        generator=decode("generator", spec.search["generator"]) if spec.search.get("generator") else None,
        same=lambda picks: same(seen.job, picks),
        seed=spec.seed,
        budget=left,
        first=first,
        like={} if seen.job.base else repeats(first),
        grace_s=grace_s,
    )


def openings(spec: Spec) -> list[dict[str, Any]]:
    """The first trials: every body with its defaults, so that a short budget has tried them all.

    Where bytes are limited each comes once more with the last step of compression that may be left out: what the
    limit refuses as it is may keep it so, and what was trained need not be trained again (`repeats`). There are none
    where a sampler goes through the space cell by cell, or a generator draws the architecture.
    """
    if spec.search.get("generator") or find("sampler", spec.search["sampler"]["method"]).exact:
        return []
    options = spec.arch.get("any", [])
    plain = [{"arch": option["method"]} for option in options] if len(options) > 1 else [{}]
    if not set(KILOBYTES) & set(spec.goal.limit):
        return plain
    steps = [[one.name for one in optional(spec, None, picks)] for picks in plain]
    return [*plain, *({**picks, names[-1]: True} for picks, names in zip(plain, steps, strict=True) if names)]


def repeats(first: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Of the first trials those that compress what another one has trained: number to the number of that one.

    >>> repeats([{"arch": "tree"}, {"arch": "mlp"}, {"arch": "mlp", "compress.quantize.static": True}])
    {2: 1}
    """
    bodies = [picks.get("arch") for picks in first]
    return {number: bodies.index(body) for number, body in enumerate(bodies) if bodies.index(body) < number}


def recipes(seen: Look) -> list[dict[str, Any]]:
    """The first trials where a version is compressed: no optional step, the last alone, all but it, and all."""
    if find("sampler", seen.job.spec.search["sampler"]["method"]).exact:
        return []
    steps = [dimension.name for dimension in optional(seen.job.spec, seen.kind)]
    chosen = [[], steps[-1:], steps[:-1], steps]
    return [dict.fromkeys(names, True) for number, names in enumerate(chosen) if names not in chosen[:number]]


def optional(spec: Spec, kind: Kind | None, picks: Mapping[str, Any] = {}) -> list[Dimension]:
    """Which steps may be left out, in their order; kind: of the body, where no arch makes one."""
    found: list[Dimension] = []

    def choose(dimension: Dimension) -> Any:
        if dimension.options == (False, True) and dimension.default is False:
            found.append(dimension)
            return True
        first = dimension.options[0] if dimension.options else dimension.low
        return picks.get(dimension.name, first)

    space(spec, kind)(choose)
    return found


def judged(seen: Look, stopwatch: Stopwatch, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The costs of a candidate, measured while the workers pause.

    Where a version is compressed it is measured beside that as it is served, and its steps are timed: one that turns
    out to be slower is left out, and the candidate made again.
    """
    from modelmill.evaluate.judge import measure

    job = seen.job
    wanted = list(dict.fromkeys(["latency_ms", "latency_p99_ms", "size_bytes", *limited(job.spec)]))
    if job.base is None:
        return measure([result["artifact"]], job.splits.valid, wanted, quick=True)[0]
    steps = stopwatch.steps(result["steps"])
    if len(found := dropped(steps)) > len(dropped(result["steps"])):
        return {"again": {"slow": found}}
    costs = measure([result["artifact"], job.base.served], job.splits.valid, wanted, quick=True)[0]
    middle, low, high = stopwatch.beside(job.base.served, result["artifact"])
    return {**costs, "latency_ratio": middle, "latency_ratio_low": low, "latency_ratio_high": high, "steps": steps}


def limited(spec: Spec) -> list[str]:
    """The costs that a goal names, beside those that are always measured."""
    named = [*spec.goal.limit, *(name for name, _ in spec.goal.objectives)]
    return [name for name in named if name in COSTS]
