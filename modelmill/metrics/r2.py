"""How much of the target's spread the values explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs
from modelmill.metrics import moments


class R2(Metric):
    """The share of the target's variance that the values explain: 1 is perfect, 0 is no better than the mean.

    >>> metric = R2()
    >>> metric.total(metric.part({"value": np.array([1.0, 2.0, 4.0])}, np.array([1.0, 2.0, 3.0]), ()))
    0.5
    """

    better: ClassVar[str] = "higher"
    best: ClassVar[float] = 1.0
    tasks: ClassVar[frozenset[str]] = frozenset({"regress"})

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> list[float]:
        """The sum of the squared errors, and the moments of the target."""
        true = np.asarray(targets, np.float64)
        error = np.asarray(predictions["value"], np.float64) - true
        return [float(error @ error), *moments.moments(true, true)]

    def merge(self, first: Any, second: Any) -> list[float]:
        """The sum, and the moments of both."""
        return [first[0] + second[0], *moments.merge(first[1:], second[1:])]

    def total(self, part: Any) -> float:
        """NaN where all targets are equal."""
        errors, spread = part[0], part[5]
        return 1 - errors / spread if spread > 0 else float("nan")
