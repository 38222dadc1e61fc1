"""How far did a distribution move, on a scale that does not grow with the number of rows?"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Array, Detector
from modelmill.finding import Finding
from modelmill.monitor.tally import pairs, tally


class Psi(Detector):
    """Notice that a distribution moved far: the population stability index, (now - before) x ln(now / before) in sum.

    Numbers are counted in bins of equal shares of the reference, categories one by one; the state keeps the counts.
    By convention 0.1 is a moderate move and 0.25 a large one. An index of few rows is mostly chance: over 0.1 in a
    third of windows of 100 rows that did not move at all.

    >>> detector = Psi(threshold=0, fewest=1)
    >>> state = detector.start(np.array(["a", "a", "b", "b"]))
    >>> _, finding = detector.step(state, np.array(["a", "b", "b", "b"]))
    >>> round(finding.figures["psi"], 4)  # 0.25 x ln 2 + 0.25 x ln 1.5
    0.2747

    Yurdakul (2018), Statistical properties of population stability index, https://scholarworks.wmich.edu/dissertations/3208
    """

    threshold: Annotated[float, Meta(ge=0)] = 0.1
    """The index at which a move is told; 0 tells of every window."""
    bins: Annotated[int, Meta(ge=2, le=1000)] = 10
    """How many bins numbers fall into."""
    fewest: Annotated[int, Meta(ge=1)] = 500
    """Rows that a window must hold to be judged."""

    def start(self, reference: Array) -> dict[str, Any]:
        """The bins' inner edges and counts, or the counts of categories. NaN is left out."""
        if reference.dtype.kind != "f":
            return tally(reference)
        numbers = reference[~np.isnan(reference)].astype(np.float64)
        places = (np.arange(1, self.bins) * len(numbers) + self.bins - 1) // self.bins - 1
        edges = np.unique(np.sort(numbers)[places]) if len(numbers) else np.empty(0)
        return {"edges": edges.tolist(), "counts": _binned(numbers, edges).tolist()}

    def step(self, state: Any, window: Array) -> tuple[Any, Finding | None]:
        """The state as it was, and the index where it reaches the threshold."""
        before, now = _counts(state, window)
        if now.sum() < self.fewest or not before.sum():
            return state, None
        index = _index(before, now)
        if index < self.threshold:
            return state, None
        size = "far" if index >= 0.25 else "some way"
        return state, Finding("psi", "warning", "", f"moved {size}: the index is {index:.3f}", "", {"psi": index})


def _binned(numbers: Array, edges: Array) -> Array:
    """How many numbers are up to the first edge, over it and up to the second, and so on."""
    return np.bincount(np.searchsorted(edges, numbers, "left"), minlength=len(edges) + 1)


def _counts(state: Any, window: Array) -> tuple[Array, Array]:
    if "edges" in state:
        numbers = window[~np.isnan(window)].astype(np.float64)
        return np.asarray(state["counts"]), _binned(numbers, np.asarray(state["edges"]))
    cells = np.array(list(pairs(state, window).values()), dtype=np.int64).reshape(-1, 2)
    return cells[:, 0], cells[:, 1]


def _index(before: Array, now: Array) -> float:
    """An empty cell counts as half a row: the logarithm needs something."""
    first, second = (np.maximum(counts, 0.5) / counts.sum() for counts in (before, now))
    return float(((second - first) * np.log(second / first))[(before > 0) | (now > 0)].sum())
