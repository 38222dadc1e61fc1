"""Are categories still as frequent as they were?"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from modelmill.contracts import Array, Detector
from modelmill.finding import Finding
from modelmill.monitor import chance
from modelmill.monitor.tally import folded, pairs, rows, tally


class ChiSquare(Detector):
    """Notice that categories, or predicted labels, are frequent in another way.

    Compares the counts of two samples; rare values are put together until the test holds. The state keeps the counts.

    >>> import numpy as np
    >>> detector = ChiSquare(level=1)
    >>> state = detector.start(np.array(["a"] * 30 + ["b"] * 10))
    >>> _, finding = detector.step(state, np.array(["a"] * 20 + ["b"] * 20))
    >>> round(finding.figures["statistic"], 4)  # 2 x (5 x 5 / 25) + 2 x (5 x 5 / 15)
    5.3333

    Pearson (1900), On the criterion that a given system of deviations can be supposed to have arisen from random
    sampling, https://doi.org/10.1080/14786440009463897
    """

    level: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """The p-value at which a difference is told; 1 tells of every window."""
    most: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """How many of the most frequent values are counted one by one."""
    fewest: Annotated[float, Meta(gt=0)] = 2
    """The smallest count that may be expected in a cell: more are more exact, and blind to what is rare."""

    def start(self, reference: Array) -> dict[str, Any]:
        """The counts of the most frequent values and of the rest."""
        return tally(reference, self.most)

    def step(self, state: Any, window: Array) -> tuple[Any, Finding | None]:
        """The state as it was, and the value whose share changed most where that is hardly chance."""
        cells = pairs(state, window)
        table = folded(cells, self.fewest)
        both = table.sum(axis=0)
        if not both.all():
            return state, None
        expected = table.sum(axis=1, keepdims=True) * both / both.sum()
        statistic = float(((table - expected) ** 2 / expected).sum())
        p = chance.chi_square(statistic, len(table) - 1)
        if p > self.level:
            return state, None
        shares = {name: (first / rows(state), second / len(window)) for name, (first, second) in cells.items()}
        value, (before, now) = max(shares.items(), key=lambda item: abs(item[1][1] - item[1][0]))
        figures = {"statistic": statistic, "p": p, "value": value, "before": before, "now": now}
        named = "other values" if value is None else repr(value)
        message = f"the categories are frequent in another way: {named} went from {before:.3f} to {now:.3f}"
        return state, Finding("chi_square", "warning", "", message, "", figures)
