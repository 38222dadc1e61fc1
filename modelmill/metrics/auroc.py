"""How well probabilities put the rows of a class before the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Metric, Outputs
from modelmill.metrics.places import places

EXACT_ROWS = 50_000
"""Rows up to which every probability is kept; of more, only how many fall into each bin."""

BINS = 2048
REACH = 16.0
"""Bins are equal steps of the log-odds between minus and plus this: float32 tells no more apart."""


class Auroc(Metric):
    """The chance that a row of a class is given a higher probability of it than a row of another; ties count half.

    Of two classes, for the second; of more, one against the rest, and the mean over the classes that occur. Exact up
    to 50,000 rows; of more it is worked out from bins of 1/64 of log-odds, whatever the order of merging, and is off
    by no more than half the share of pairs that fall into one bin.

    >>> metric = Auroc()
    >>> answers = {"probabilities": np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])}
    >>> metric.total(metric.part(answers, np.array([0, 0, 1, 1]), (0, 1)))
    0.75

    Hanley & McNeil (1982), The meaning and use of the area under a ROC curve, https://doi.org/10.1148/radiology.143.1.7063747
    """

    better: ClassVar[str] = "higher"
    best: ClassVar[float] = 1.0
    tasks: ClassVar[frozenset[str]] = frozenset({"classify"})
    exact: ClassVar[bool] = False

    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> dict[str, Array]:
        """The probabilities (rows, scores) and the true positions (rows,); or counts (scores, 2, bins)."""
        scores, place = np.asarray(predictions["probabilities"]), places(np.asarray(targets), classes)
        if len(classes) == 2:
            scores, place = scores[:, 1:], place - 1
        return _small({"scores": scores, "places": place})

    def merge(self, first: Any, second: Any) -> dict[str, Array]:
        """Rows put together while they are few, else the sums of the counts."""
        if "scores" in first and "scores" in second:
            return _small({key: np.concatenate([first[key], second[key]]) for key in ("scores", "places")})
        return {"counts": _counts(first) + _counts(second)}

    def total(self, part: Any) -> float:
        """NaN where no class has rows both inside and outside."""
        if "scores" in part:
            areas = [_area(part["scores"][:, i], part["places"] == i) for i in range(part["scores"].shape[1])]
        else:
            areas = [_area_of_counts(counts[0], counts[1]) for counts in part["counts"]]
        known = [area for area in areas if area is not None]
        return float(np.mean(known)) if known else float("nan")


def _small(part: dict[str, Array]) -> dict[str, Array]:
    return part if len(part["places"]) <= EXACT_ROWS else {"counts": _counts(part)}


def _counts(part: dict[str, Array]) -> Array:
    """Rows outside and inside of every class by bin: (scores, 2, bins)."""
    if "counts" in part:
        return part["counts"]
    scores = part["scores"].astype(np.float64)
    tiny = np.exp(-REACH)
    odds = np.log(np.maximum(scores, tiny)) - np.log(np.maximum(1 - scores, tiny))
    bins = np.rint((np.clip(odds, -REACH, REACH) / REACH + 1) * (BINS // 2 - 1)).astype(np.int64)
    return np.stack(
        [
            np.stack([np.bincount(column[(part["places"] == i) == inside], minlength=BINS) for inside in (False, True)])
            for i, column in enumerate(bins.T)
        ]
    )


def _area(scores: Array, inside: Array) -> float | None:
    """The area from the scores themselves; NaN where one of them is NaN."""
    rows, others = np.sort(scores[inside]), np.sort(scores[~inside])
    if not len(rows) or not len(others):
        return None
    if np.isnan(rows[-1]) or np.isnan(others[-1]):
        return float("nan")
    below = np.searchsorted(others, rows, "left").sum() + np.searchsorted(others, rows, "right").sum()
    return float(below) / (2 * len(rows) * len(others))


def _area_of_counts(others: Array, rows: Array) -> float | None:
    if not rows.sum() or not others.sum():
        return None
    below = 2 * (np.cumsum(others) - others) + others
    return float(below @ rows) / (2 * int(rows.sum()) * int(others.sum()))
