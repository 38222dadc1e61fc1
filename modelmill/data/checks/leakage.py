"""Does a single feature already tell the target?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Check
from modelmill.data.cells import Array
from modelmill.data.columns import codes, scalars, share, target_codes, width
from modelmill.dataset import Dataset, Splits
from modelmill.finding import Finding
from modelmill.signature import Field

HINT = "Leave it out if it is not known before the target is."
BINS = 64
MOST_EDGES = 500
"""How many places for a cut are tried."""


class Leakage(Check):
    """Features that equal the target, rename it, or predict it almost perfectly on their own.

    Classes are predicted by a shallow tree on the feature alone, judged on the validation rows; values are correlated
    with the feature, as they are and by rank.
    """

    near: Annotated[float, Meta(gt=0.5, lt=1)] = 0.998
    """The accuracy, or the squared correlation, from which one feature tells too much."""
    rows: Annotated[int, Meta(ge=10)] = 20_000
    """How many training rows are looked at; fewer where columns are many."""

    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield a warning for every feature that gives the target away."""
        most = max(1000, self.rows * 100 // max(100, width(splits.train)))
        train, valid = _few(splits.train, most), _few(splits.valid, most)
        if train.target is None or valid.target is None or not (train.rows and valid.rows):
            return
        told = _number_told if train.target.dtype.kind == "f" else _class_told
        for (name, field, ours), (_, _, theirs) in zip(scalars(train), scalars(valid), strict=True):
            message = told(field, ours, theirs, (train.target, valid.target), self.near)
            if message:
                yield Finding("leakage", "warning", f"{train.origin} column {name}", message, HINT)


def _few(data: Dataset, most: int) -> Dataset:
    return data if data.rows <= most else data.take(np.arange(most) * data.rows // most)


def _class_told(field: Field, ours: Array, theirs: Array, targets: tuple[Array, Array], near: float) -> str:
    both = np.concatenate([ours, theirs])
    target = target_codes(np.concatenate(targets))
    known = codes(both, field)
    if len(ours) >= 10 and _renames(known, target):
        return "has one value for each class: it is the target by another name"
    bins = _bins(known, target, len(ours))
    head, tail = slice(0, len(ours)), slice(len(ours), None)
    table = np.zeros((bins.max() + 1, target.max() + 1), np.int64)
    np.add.at(table, (bins[head], target[head]), 1)
    right = float(np.mean(table.argmax(axis=1)[bins[tail]] == target[tail]))
    most = float(np.bincount(target[tail]).max() / len(target[tail]))
    if len(theirs) < 30 or right < near or 1 - right > 0.1 * (1 - most):
        return ""
    return f"tells the class on its own in {share(right)} of the validation rows"


def _renames(known: Array, target: Array) -> bool:
    """Whether every value goes with one class, and every class with one value."""
    values, classes = int(known.max()) + 2, int(target.max()) + 1
    if values - 1 > classes:
        return False
    pairs = len(np.unique((known + 1) * classes + target))
    return pairs == len(np.unique(known)) == len(np.unique(target)) > 1


def _bins(known: Array, target: Array, fit: int) -> Array:
    """(rows,) int64 bins from 0: the values themselves where they are few, else the leaves of a shallow tree.

    The tree is grown on the first `fit` rows; bin 0 is a missing value.
    """
    if known.max(initial=-1) < BINS:
        return known + 1
    there = known[:fit] >= 0
    values, labels = known[:fit][there], target[:fit][there]
    order = np.argsort(values, kind="stable")
    classes = int(target.max()) + 1
    depth = min(7, 2 + int(np.ceil(np.log2(classes))))
    edges = sorted(_edges(values[order], labels[order], classes, depth))
    found: Array = np.searchsorted(np.array(edges), known, side="left") + 1
    found[known < 0] = 0
    return found


def _edges(values: Array, labels: Array, classes: int, depth: int) -> list[float]:
    """Where a tree of that depth cuts sorted values so that the parts are purest (by Gini's measure)."""
    places = np.flatnonzero(values[1:] != values[:-1])
    if depth == 0 or len(places) == 0 or (labels == labels[0]).all():
        return []
    if len(places) > MOST_EDGES:
        places = places[np.arange(MOST_EDGES) * len(places) // MOST_EDGES]
    left = np.stack([np.searchsorted(np.flatnonzero(labels == k), places, side="right") for k in range(classes)])
    right = np.bincount(labels, minlength=classes)[:, None] - left
    purity = (left**2).sum(axis=0) / (places + 1) + (right**2).sum(axis=0) / (len(values) - places - 1)
    place = int(places[purity.argmax()])
    cut = (float(values[place]) + float(values[place + 1])) / 2
    head, tail = slice(0, place + 1), slice(place + 1, None)
    return [
        cut,
        *_edges(values[head], labels[head], classes, depth - 1),
        *_edges(values[tail], labels[tail], classes, depth - 1),
    ]


def _number_told(field: Field, ours: Array, theirs: Array, targets: tuple[Array, Array], near: float) -> str:
    if field.kind == "category":
        return _means_told(codes(np.concatenate([ours, theirs]), field), len(ours), targets, near)
    values, target = ours.astype(np.float64), targets[0].astype(np.float64)
    there = np.isfinite(values)
    if there.sum() < 10 or len(np.unique(values[there])) < 3:
        return ""
    values, target = values[there], target[there]
    if np.array_equal(values, target):
        return "equals the target"
    best = max(_squared_correlation(values, target), _squared_correlation(_ranks(values), _ranks(target)))
    if best < near:
        return ""
    return f"follows the target almost exactly (squared correlation {best:.4f})"


def _squared_correlation(first: Array, second: Array) -> float:
    a, b = first - first.mean(), second - second.mean()
    below = float((a @ a) * (b @ b))
    return float((a @ b) ** 2) / below if below > 0 else 0.0


def _ranks(values: Array) -> Array:
    """(rows,) ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: Array = (np.cumsum(counts) - (counts + 1) / 2)[inverse]
    return found


def _means_told(known: Array, fit: int, targets: tuple[Array, Array], near: float) -> str:
    """Whether the mean of each category gives the validation targets."""
    head, tail = known[:fit] + 1, known[fit:] + 1
    width = int(known.max()) + 2
    counts = np.bincount(head, minlength=width)
    means = np.bincount(head, targets[0], minlength=width) / np.maximum(counts, 1)
    means[counts == 0] = targets[0].mean()
    spread = float(np.sum((targets[1] - targets[1].mean()) ** 2))
    if spread == 0 or len(tail) < 30:
        return ""
    told = 1 - float(np.sum((targets[1] - means[tail]) ** 2)) / spread
    return f"tells the target on its own (R2 {told:.4f} on the validation rows)" if told >= near else ""
