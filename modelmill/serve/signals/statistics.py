"""What a version has done, as Triton's statistics extension says it: from the same figures as everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelmill.serve.signals.figures import Series, by_kind

PHASES = (("queue", "queue"), ("batch", "compute_input"), ("compute", "compute_infer"), ("encode", "compute_output"))
"""Our phases, and what Triton calls them."""

NOTHING: dict[str, int] = {"count": 0, "ns": 0}


def statistics(series: Series, model: str, version: str) -> dict[str, Any]:
    """Counts and nanoseconds of one version; times of answers that failed are among those of all.

    >>> statistics({}, "iris", "1")["inference_stats"]["success"]
    {'count': 0, 'ns': 0}
    """
    parts = by_kind(series)
    found = {what: _of(listed, model, version) for what, listed in parts.items()}
    counted = {True: 0, False: 0}
    for (name, number, _, code), values in parts.get("answers", ()):
        if (name, number) == (model, version):
            counted[code.startswith("2")] += round(values[0])
    rows = found.get("rows", ())
    spent = round(found["duration"][-1] * 1e9) if found.get("duration") else 0
    stats = {name: _timed(found.get(phase, ())) for phase, name in PHASES}
    return {
        "inference_count": round(rows[-1]) if rows else 0,
        "execution_count": round(sum(rows[:-1])),
        "inference_stats": {
            "success": {"count": counted[True], "ns": spent},
            "fail": {"count": counted[False], "ns": 0},
            **stats,
            "cache_hit": NOTHING,
            "cache_miss": NOTHING,
        },
    }


def _of(listed: Sequence[tuple[Sequence[str], Sequence[float]]], model: str, version: str) -> Sequence[float]:
    return next((values for labels, values in listed if list(labels[:2]) == [model, version]), ())


def _timed(values: Sequence[float]) -> dict[str, int]:
    """A histogram as how many there were, and how long they took together."""
    return {"count": round(sum(values[:-1])), "ns": round(values[-1] * 1e9)} if values else NOTHING
