"""Is a rare thing still as rare as it was?"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Array, Detector
from modelmill.finding import Finding
from modelmill.monitor import chance


class Fisher(Detector):
    """Notice that a share of rows (those with a gap, say) went up or down, exact also where hits are few.

    The state keeps how many hits there were in how many rows.

    >>> detector = Fisher(level=1)
    >>> state = detector.start(np.array([True] * 8 + [False] * 2))
    >>> _, finding = detector.step(state, np.array([True] + [False] * 5))
    >>> round(finding.figures["p"], 4)
    0.035

    Fisher (1922), On the interpretation of chi-square from contingency tables, https://doi.org/10.2307/2340521
    """

    level: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """The p-value at which a difference is told; 1 tells of every window."""

    def start(self, reference: Array) -> dict[str, int]:
        """Hits and rows of a boolean array."""
        return {"hits": int(np.count_nonzero(reference)), "rows": len(reference)}

    def step(self, state: Any, window: Array) -> tuple[Any, Finding | None]:
        """The state as it was, and both shares where their difference is hardly chance."""
        hits, rows = int(np.count_nonzero(window)), len(window)
        p = chance.fisher(state["hits"], state["rows"], hits, rows)
        if p > self.level:
            return state, None
        before, now = state["hits"] / max(1, state["rows"]), hits / max(1, rows)
        message = f"the share went from {before:.3f} to {now:.3f}"
        return state, Finding("fisher", "warning", "", message, "", {"p": p, "before": before, "now": now})
