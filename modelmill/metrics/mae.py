"""How far values are off, on average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs


class Mae(Metric):
    """The mean absolute error, in the unit of the target.

    >>> metric = Mae()
    >>> metric.total(metric.part({"value": np.array([1.0, 5.0])}, np.array([2.0, 2.0]), ()))
    2.0
    """

    better: ClassVar[str] = "lower"
    best: ClassVar[float] = 0.0
    tasks: ClassVar[frozenset[str]] = frozenset({"regress"})

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> list[float]:
        """The sum of the absolute errors, and the rows."""
        error = np.asarray(predictions["value"], np.float64) - np.asarray(targets, np.float64)
        return [float(np.abs(error).sum()), float(len(error))]

    def merge(self, first: Any, second: Any) -> list[float]:
        """The sums."""
        return [first[0] + second[0], first[1] + second[1]]

    def total(self, part: Any) -> float:
        """NaN without rows."""
        errors, rows = part
        return errors / rows if rows else float("nan")
