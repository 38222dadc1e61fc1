"""How surprised the probabilities are by the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs
from modelmill.metrics.places import UNSEEN, places

SMALLEST = float(np.finfo(np.float32).eps)
"""What a probability is raised to: one wrong certainty is then bad, and not infinitely so."""


class LogLoss(Metric):
    """The mean of minus the logarithm of the probability that was given to the true label.

    Probabilities are kept inside (eps, 1 - eps) of float32. A true label that is none of the classes counts as if it
    had been given eps.

    >>> metric = LogLoss()
    >>> answers = {"probabilities": np.array([[0.5, 0.5], [0.25, 0.75]])}
    >>> round(metric.total(metric.part(answers, np.array([0, 0]), (0, 1))), 4)
    1.0397
    """

    better: ClassVar[str] = "lower"
    best: ClassVar[float] = 0.0
    tasks: ClassVar[frozenset[str]] = frozenset({"classify"})

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> list[float]:
        """The sum of the losses, and the rows."""
        place = places(np.asarray(targets), classes)
        given = np.asarray(predictions["probabilities"])[np.arange(len(place)), place].astype(np.float64)
        given = np.clip(np.where(place == UNSEEN, 0.0, given), SMALLEST, 1 - SMALLEST)
        return [float(-np.log(given).sum()), float(len(place))]

    def merge(self, first: Any, second: Any) -> list[float]:
        """The sums."""
        return [first[0] + second[0], first[1] + second[1]]

    def total(self, part: Any) -> float:
        """NaN without rows."""
        loss, rows = part
        return loss / rows if rows else float("nan")
