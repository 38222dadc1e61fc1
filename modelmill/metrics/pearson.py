"""How well values rise and fall with the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs
from modelmill.metrics import moments


class Pearson(Metric):
    """The linear correlation of values and target: 1 is in step, -1 against it; scale and shift do not count.

    >>> metric = Pearson()
    >>> metric.total(metric.part({"value": np.array([30.0, 10.0, 30.0, 10.0])}, np.array([1.0, 2.0, 1.0, 2.0]), ()))
    -1.0
    """

    better: ClassVar[str] = "higher"
    best: ClassVar[float] = 1.0
    tasks: ClassVar[frozenset[str]] = frozenset({"regress"})

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> moments.Moments:
        """The moments of values and target."""
        return moments.moments(np.asarray(predictions["value"]), targets)

    def merge(self, first: Any, second: Any) -> moments.Moments:
        """The moments of both."""
        return moments.merge(first, second)

    def total(self, part: Any) -> float:
        """NaN where all values or all targets are equal."""
        squares, products = part[3] ** 0.5 * part[4] ** 0.5, part[5]
        return float(min(1.0, max(-1.0, products / squares))) if squares > 0 else float("nan")
