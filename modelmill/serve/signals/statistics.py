"""What a version has done, as Triton's statistics extension says it: from the same figures as everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelmill.serve.signals.kinds import Series, by_kind

PHASES = (("queue", "queue"), ("batch", "compute_input"), ("compute", "compute_infer"), ("encode", "compute_output"))
"""Our phases, and what Triton calls them."""

RUN_PHASES = ("compute_input", "compute_infer", "compute_output")

Listed = Sequence[tuple[Sequence[str], Sequence[float]]]

NOTHING: dict[str, int] = {"count": 0, "ns": 0}


Parts = Mapping[str, Listed]

NONE: Parts = {}


def by_version(series: Series) -> dict[tuple[str, str], dict[str, list[tuple[Sequence[str], Sequence[float]]]]]:
    """Series by model and version, and then by what they count."""
    found: dict[tuple[str, str], dict[str, list[tuple[Sequence[str], Sequence[float]]]]] = {}
    for what, listed in by_kind(series).items():
        for labels, values in listed:
            if len(labels) > 1:
                found.setdefault((labels[0], labels[1]), {}).setdefault(what, []).append((labels, values))
    return found


def statistics(parts: Parts) -> dict[str, Any]:
    """Counts and nanoseconds of one version, the moment of its last run, and its runs by their rows.

    parts: its series, of `by_version`.

    The phases of requests that shared a run count the run once: so they add up to what the machine spent. A run on the
    loop has nothing to join, and is counted with no time for it. Inferences are the rows of requests that were
    answered; runs are all that came to an end.

    >>> statistics(NONE)["inference_stats"]["success"]
    {'count': 0, 'ns': 0}
    """
    found = {what: listed[0][1] for what, listed in parts.items()}
    counted = {True: 0, False: 0}
    for (*_, code), values in parts.get("answers", ()):
        counted[code.startswith("2")] += round(values[0])
    runs = round(sum(found.get("rows", ())[:-1]))
    spent = round(found["duration"][-1] * 1e9) if found.get("duration") else 0
    lost = round(found["failed"][0] * 1e9) if found.get("failed") else 0
    stats = {name: _timed(found.get(phase, ())) for phase, name in PHASES}
    stats["compute_input"] = {**stats["compute_input"], "count": runs}
    return {
        "last_inference": round(found["last"][0] * 1000) if found.get("last") else 0,
        "inference_count": round(found["inferred"][0]) if found.get("inferred") else 0,
        "execution_count": runs,
        "inference_stats": {
            "success": {"count": counted[True], "ns": max(0, spent - lost)},
            "fail": {"count": counted[False], "ns": lost},
            **stats,
            "cache_hit": NOTHING,
            "cache_miss": NOTHING,
        },
        "response_stats": {},  # of models that answer a request several times: there are none here
        "batch_stats": _sizes(parts.get("size", ())),
    }


def _sizes(listed: Listed) -> list[dict[str, Any]]:
    """The runs by their rows: how many, and the time that each phase took together."""
    found = sorted((int(labels[2]), values) for labels, values in listed)
    return [
        {
            "batch_size": rows,
            **{name: {"count": round(count), "ns": round(ns)} for name, ns in zip(RUN_PHASES, spent, strict=True)},
        }
        for rows, (count, *spent) in found
    ]


def _timed(values: Sequence[float]) -> dict[str, int]:
    """A histogram as how many there were, and how long they took together."""
    return {"count": round(sum(values[:-1])), "ns": round(values[-1] * 1e9)} if values else NOTHING
