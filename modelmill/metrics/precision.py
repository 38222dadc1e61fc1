"""How far a label can be believed when it is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs
from modelmill.metrics import counts


class Precision(Metric):
    """Of the rows that were given a label, the share that has it: the mean over labels, each counting the same.

    A label that is true but never said counts 0.

    >>> metric = Precision()
    >>> metric.total(metric.part({"label": np.array([0, 0, 1])}, np.array([0, 1, 1]), (0, 1)))
    0.75
    """

    better: ClassVar[str] = "higher"
    best: ClassVar[float] = 1.0
    tasks: ClassVar[frozenset[str]] = frozenset({"classify"})

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> counts.Counts:
        """The counts of every label."""
        return counts.counts(np.asarray(predictions["label"]), targets)

    def merge(self, first: Any, second: Any) -> counts.Counts:
        """The sums."""
        return counts.merge(first, second)

    def total(self, part: Any) -> float:
        """NaN without rows."""
        return counts.macro(part, lambda right, said, true: (right, said))
