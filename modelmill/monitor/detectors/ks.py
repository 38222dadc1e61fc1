"""Are numbers still spread as they were?"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Array, Detector
from modelmill.finding import Finding
from modelmill.monitor.chance import kolmogorov


class Ks(Detector):
    """Notice that numbers are spread in another way, by the greatest gap between the two cumulative shares.

    The state keeps the reference's counts below and up to some of its values. All distinct values where they are
    few: then the gap is that of the raw numbers. Else quantiles: then it may come out smaller by the share between
    two of them, so that an alarm is never false for the sketch's sake. NaN is left out.

    >>> detector = Ks(level=1)
    >>> state = detector.start(np.array([1.0, 2.0, 3.0, 4.0]))
    >>> _, finding = detector.step(state, np.array([3.0, 4.0, 5.0, 6.0]))
    >>> finding.figures["gap"]
    0.5

    Smirnov (1948), Table for estimating the goodness of fit of empirical distributions, https://doi.org/10.1214/aoms/1177730256
    """

    level: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """The p-value at which a difference is told; 1 tells of every window."""
    edges: Annotated[int, Meta(ge=2, le=10_000)] = 100
    """How many values of the reference are kept."""

    def start(self, reference: Array) -> dict[str, Any]:
        """The values kept, with the counts of the reference below each and up to each."""
        numbers = _sorted(reference)
        edges = np.unique(numbers)
        if len(edges) > self.edges:
            places = np.linspace(0, len(numbers) - 1, self.edges).round().astype(np.int64)
            edges = np.unique(numbers[places])
        return {
            "rows": len(numbers),
            "edges": edges.tolist(),
            "below": np.searchsorted(numbers, edges, "left").tolist(),
            "up_to": np.searchsorted(numbers, edges, "right").tolist(),
        }

    def step(self, state: Any, window: Array) -> tuple[Any, Finding | None]:
        """The state as it was, and the greatest gap where it is hardly chance."""
        numbers = _sorted(window)
        figures = _gap(state, numbers)
        figures["p"] = kolmogorov(figures["gap"], state["rows"], len(numbers))
        if figures["p"] > self.level:
            return state, None
        message = f"the numbers are spread in another way: the greatest gap is {figures['gap']:.3f}"
        return state, Finding("ks", "warning", "", message, "", figures)


def _sorted(values: Array) -> Array:
    numbers = np.asarray(values, dtype=np.float64)
    found: Array = np.sort(numbers[~np.isnan(numbers)])
    return found


def _gap(state: Any, numbers: Array) -> dict[str, Any]:
    """The greatest gap, and the shares of both sides below the edge or up to it where it is."""
    if not state["rows"] or not len(numbers):
        return {"gap": 0.0}
    edges = np.asarray(state["edges"])
    before = np.array([state["below"], state["up_to"]]) / state["rows"]
    now = np.array([np.searchsorted(numbers, edges, side) for side in ("left", "right")]) / len(numbers)
    side, place = np.unravel_index(np.argmax(np.abs(now - before)), now.shape)
    return {
        "gap": float(abs(now - before)[side, place]),
        "at": float(edges[place]),
        "up_to": bool(side),
        "before": float(before[side, place]),
        "now": float(now[side, place]),
    }
