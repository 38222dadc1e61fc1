"""How often the label is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs


class Accuracy(Metric):
    """The share of rows whose label is right.

    >>> metric = Accuracy()
    >>> metric.total(metric.part({"label": np.array([1, 2, 3, 4])}, np.array([1, 2, 3, 5]), ()))
    0.75
    """

    better: ClassVar[str] = "higher"
    best: ClassVar[float] = 1.0
    tasks: ClassVar[frozenset[str]] = frozenset({"classify"})

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> list[int]:
        """Right answers, and rows."""
        return [int(np.sum(predictions["label"] == targets)), len(targets)]

    def merge(self, first: Any, second: Any) -> list[int]:
        """The sums."""
        return [first[0] + second[0], first[1] + second[1]]

    def total(self, part: Any) -> float:
        """NaN without rows."""
        right, rows = part
        return right / rows if rows else float("nan")
