"""How well the service does, over windows of time and against what was stated: availability, response time, jitter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate
from operator import add
from typing import Any

from modelmill.errors import OutOfBounds, UnknownName
from modelmill.serve.signals.kinds import (
    ASIDE,
    EXPIRED,
    OVER_QUOTA,
    REFUSED,
    SECONDS,
    Series,
    by_kind,
    is_failure,
    is_owed,
)

WINDOWS = {"5m": 300.0, "1h": 3600.0, "24h": 86_400.0}
STEP_SECONDS = 10.0
"""How often counts are written down: what is lost where a service is killed as a whole."""

QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
OBJECTIVES = ("availability", *QUANTILES)
DEFAULT = {"availability": 0.999}


@dataclass(frozen=True)
class Counts:
    """What the service was to answer up to a moment, all models together.

    requests: those for a model that is served, without what was wrong with the request itself or beyond its sender's
    quota (4xx). failed: by the service's own fault (codes from 500 on, but for 504). refused: for want of room (429).
    expired: too late for the time that the client had set (504). durations: (bounds + 2,) a histogram of those that
    were answered or expired, as figures have it.
    """

    requests: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    expired: float = 0.0
    durations: tuple[float, ...] = (0.0,) * (len(SECONDS) + 2)

    @property
    def lost(self) -> float:
        """What the service was to answer, and did not."""
        return self.failed + self.refused

    def since(self, before: Counts) -> Counts:
        """What came after an earlier moment."""
        return _each(_less, self, before)


NOTHING = Counts()


def total(parts: Iterable[Counts]) -> Counts:
    """The sum of what several have counted.

    >>> total([Counts(requests=2), Counts(requests=3, failed=1)]).requests
    5.0
    """
    return reduce(partial(_each, add), parts, NOTHING)


def _each(work: Callable[[float, float], float], a: Counts, b: Counts) -> Counts:
    """What a function of two numbers makes of each pair of counts."""
    return Counts(
        work(a.requests, b.requests),
        work(a.failed, b.failed),
        work(a.refused, b.refused),
        work(a.expired, b.expired),
        tuple(map(work, a.durations, b.durations)),
    )


def _less(now: float, then: float) -> float:
    """A difference of what only grows, read at two moments: never below zero."""
    return max(0.0, now - then)


def counts(series: Series) -> Counts:
    """The sums of all models."""
    parts = by_kind(series)
    answers = [(int(labels[3]), values[0]) for labels, values in parts.get("answers", ()) if labels[0]]
    durations = [values for _, values in parts.get("duration", ())]
    aside, (over_quota,) = series.get(ASIDE, NOTHING.durations), series.get(OVER_QUOTA, (0.0,))
    return Counts(
        _less(sum(count for code, count in answers if is_owed(code)), over_quota),
        sum(count for code, count in answers if is_failure(code)),
        _less(sum(count for code, count in answers if code == REFUSED), over_quota),
        sum(count for code, count in answers if code == EXPIRED),
        tuple(map(_less, map(sum, zip(*durations, strict=True)), aside)) if durations else NOTHING.durations,
    )


def status(found: Mapping[str, Counts], up_s: float, objectives: Mapping[str, float]) -> dict[str, Any]:
    """What `/api/status` says: each window by itself, and what is left of each objective's budget."""
    return {
        "up_seconds": round(up_s, 1),
        "objectives": dict(objectives),
        "windows": {name: window(counted, objectives) for name, counted in found.items()},
    }


def window(found: Counts, objectives: Mapping[str, float]) -> dict[str, Any]:
    """Availability, response times and budgets of one window.

    A budget is the part of the failures (or of the slow answers) that an objective allows and that did not happen yet:
    1 is all of it, 0 none, below 0 it is overdrawn. jitter_ms: the 95th percentile of response times less the median.
    """
    timed = sum(found.durations[:-1])
    milliseconds = {name: quantile(found.durations, share) for name, share in QUANTILES.items()} if timed else {}
    told: dict[str, Any] = {
        "requests": int(found.requests),
        "failed": int(found.failed),
        "refused": int(found.refused),
        "expired": int(found.expired),
        "availability": 1 - found.lost / found.requests if found.requests else None,
        **{name: milliseconds.get(name) for name in QUANTILES},
        "jitter_ms": milliseconds["latency_p95_ms"] - milliseconds["latency_p50_ms"] if timed else None,
    }
    return {**told, "budget_left": {name: left(name, value, found) for name, value in objectives.items()}}


def left(name: str, objective: float, found: Counts) -> float | None:
    """What is left of an objective's budget; None where nothing was asked.

    >>> round(left("availability", 0.99, Counts(requests=1000, failed=5)), 6)
    0.5
    """
    if name == "availability":
        allowed, spent = (1 - objective) * found.requests, found.lost
    else:
        timed = sum(found.durations[:-1])
        allowed, spent = (1 - QUANTILES[name]) * timed, timed - below(found.durations, objective / 1000)
    return None if not allowed else 1 - spent / allowed


def quantile(durations: Sequence[float], share: float) -> float:
    """Milliseconds that so great a share of the answers did not exceed, evenly within a bucket."""
    totals = list(accumulate(durations[:-1]))
    wanted = share * totals[-1]
    place = next(i for i, total in enumerate(totals) if total >= wanted and durations[i])
    low = SECONDS[place - 1] if place else 0.0
    high = SECONDS[place] if place < len(SECONDS) else SECONDS[-1]
    inside = (wanted - (totals[place] - durations[place])) / durations[place]
    return 1000 * (low + inside * (high - low))


def below(durations: Sequence[float], seconds: float) -> float:
    """How many answers took no longer, evenly within a bucket."""
    found, low = 0.0, 0.0
    for bound, count in zip(SECONDS, durations, strict=False):
        if seconds < bound:
            return found + count * max(0.0, (seconds - low) / (bound - low))
        found, low = found + count, bound
    return found


def objective(text: str) -> tuple[str, float]:
    """A name and a value of `NAME=VALUE`.

    >>> objective("availability=0.999")
    ('availability', 0.999)
    """
    name, _, value = text.partition("=")
    if name not in OBJECTIVES:
        raise UnknownName.among("--objective", "objective", name, OBJECTIVES)
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not (0 < number < 1 if name == "availability" else 0 < number < float("inf")):
        wanted = "a number between 0 and 1" if name == "availability" else "milliseconds above 0"
        example = "0.999" if name == "availability" else "50"
        raise OutOfBounds(f"--objective {name}", f"came {value!r}, expected {wanted}", f"Try {name}={example}.")
    return name, number
