"""How far a model's answers are those of the model that it replaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs
from modelmill.metrics import moments

SUM = 1e-2
"""How far from 1 a row of probabilities may sum up: float16 rounds."""


class Agreement(Metric):
    """How far answers are another model's: 1 where every output is, 0 where the worst has nothing to do with it.

    The targets are the other model's answers, a record a row with a field an output. The figure is the least over the
    outputs. An output of text, booleans or whole numbers: the share of values that are the same. One whose rows are
    probabilities (from 0 to 1, and of the sum 1): the share of rows with the same greatest one. Other numbers: 1 less
    the root of the mean squared error over the standard deviation of what is to be met, and never below 0. Numbers
    that are not finite agree with their like alone; beside a finite one they make the figure 0.

    >>> target = np.array([([0.1, 0.9],), ([0.6, 0.4],)], [("p", "f4", (2,))])
    >>> metric = Agreement()
    >>> metric.total(metric.part({"p": np.array([[0.2, 0.8], [0.45, 0.55]])}, target, ()))
    0.5
    """

    better: ClassVar[str] = "higher"
    best: ClassVar[float] = 1.0
    tasks: ClassVar[frozenset[str]] = frozenset({"compute"})

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> dict[str, list[float]]:
        """For every output: rows that could be no probabilities, rows, equal ones; squared error, moments."""
        return {name: _part(predictions[name], targets[name]) for name in targets.dtype.names or ()}

    def merge(self, first: Any, second: Any) -> dict[str, list[float]]:
        """The sums, and the moments of both."""
        return {name: _merge(first[name], second[name]) for name in first}

    def total(self, part: Any) -> float:
        """NaN without rows."""
        return min(map(_total, part.values()), default=math.nan)


PLAIN = 4
"""How many sums stand before the moments of a part."""


def _part(said: Array, true: Array) -> list[float]:
    rows = len(true)
    if true.dtype.kind != "f":
        same = (np.asarray(said).astype(str if true.dtype.kind == "U" else true.dtype) == true).reshape(rows, -1)
        return [0.0, float(same.size), float(same.sum()), 0.0, *moments.moments(true[:0], true[:0])]
    x, y = (np.asarray(values, np.float64).reshape(rows, -1) for values in (said, true))
    strange = np.sum(~_are_probabilities(y)) if true.ndim == 2 and true.shape[1] > 1 else rows
    same = x.argmax(axis=1) == y.argmax(axis=1) if y.size else np.zeros(rows)
    alike = (x == y) | (np.isnan(x) & np.isnan(y))
    both = np.isfinite(x) & np.isfinite(y)
    error = math.inf if not (alike | both).all() else float(np.sum((x[both] - y[both]) ** 2))
    return [float(strange), float(rows), float(same.sum()), error, *moments.moments(y[both], y[both])]


def _are_probabilities(rows: Array) -> Array:
    told: Array = (rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) <= SUM)
    return told


def _merge(first: Sequence[float], second: Sequence[float]) -> list[float]:
    sums = [a + b for a, b in zip(first[:PLAIN], second[:PLAIN], strict=True)]
    return [*sums, *moments.merge(first[PLAIN:], second[PLAIN:])]


def _total(part: Sequence[float]) -> float:
    strange, rows, same, error = part[:PLAIN]
    if rows == 0:
        return math.nan
    if strange == 0:
        return same / rows
    spread = part[PLAIN + 4]
    if error == 0:
        return 1.0
    return max(0.0, 1 - math.sqrt(error / spread)) if spread > 0 else 0.0
