"""What the figures are of: their buckets and names, and what the codes of answers mean for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PHASE_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, *SECONDS)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)

PHASES = ("queue", "batch", "compute", "encode")
"""Waiting for a thread; joining rows; the run itself; putting the answer into bytes."""

EXPIRED, REFUSED = 504, 429
"""A request came too late for the time that its client had set; there was no room for it."""

ASIDE, OVER_QUOTA = '["aside"]', '["over_quota"]'
"""How long answers took by which nobody measures the service, in the buckets of SECONDS; how many a quota refused."""

SINCE = '["since"]'
"""When the service began: a process that takes the place of a dead one finds it there."""

Series = Mapping[str, Sequence[float]]


def is_failure(code: int) -> bool:
    """Whether the service failed by its own fault: that a client's own time was too short is none.

    >>> is_failure(500), is_failure(504), is_failure(429)
    (True, False, False)
    """
    return code >= 500 and code != EXPIRED


def is_owed(code: int) -> bool:
    """Whether the service was to answer: what was wrong with the request itself it need not.

    >>> is_owed(200), is_owed(404), is_owed(429), is_owed(503), is_owed(504)
    (True, False, True, True, True)
    """
    return code < 400 or code >= 500 or code == REFUSED


def is_timed(code: int) -> bool:
    """Whether how long an answer took is a response time: a refusal is quick whatever the service is like.

    >>> is_timed(200), is_timed(504), is_timed(429), is_timed(500)
    (True, True, False, False)
    """
    return code < 400 or code == EXPIRED


def since(series: Series) -> float:
    """When the service began, in seconds since 1970."""
    return series[SINCE][0]


def by_kind(series: Series) -> dict[str, list[tuple[Sequence[str], Sequence[float]]]]:
    """Series by what they count: labels, and values."""
    found: dict[str, list[tuple[Sequence[str], Sequence[float]]]] = {}
    for key, values in series.items():
        what, *labels = json.loads(key)
        found.setdefault(what, []).append((labels, values))
    return found


def reason(code: int) -> str:
    """Why a request failed, in the words of Triton's label.

    >>> reason(429), reason(504), reason(499), reason(500), reason(400)
    ('REJECTED', 'REJECTED', 'CANCELED', 'BACKEND', 'OTHER')
    """
    return {REFUSED: "REJECTED", EXPIRED: "REJECTED", 499: "CANCELED", 500: "BACKEND"}.get(code, "OTHER")
