"""How far values are off, where large errors count more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs


class Rmse(Metric):
    """The root of the mean squared error, in the unit of the target.

    >>> metric = Rmse()
    >>> metric.total(metric.part({"value": np.array([3.0, 5.0])}, np.array([2.0, -2.0]), ()))
    5.0
    """

    better: ClassVar[str] = "lower"
    best: ClassVar[float] = 0.0
    tasks: ClassVar[frozenset[str]] = frozenset({"regress"})

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> list[float]:
        """The sum of the squared errors, and the rows."""
        error = np.asarray(predictions["value"], np.float64) - np.asarray(targets, np.float64)
        return [float(error @ error), float(len(error))]

    def merge(self, first: Any, second: Any) -> list[float]:
        """The sums."""
        return [first[0] + second[0], first[1] + second[1]]

    def total(self, part: Any) -> float:
        """NaN without rows."""
        squares, rows = part
        return float((squares / rows) ** 0.5) if rows else float("nan")
