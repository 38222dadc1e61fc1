"""How often every label was right, was said, and was true: what precision, recall and F1 are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from modelmill.contracts import Array

Counts = dict[str, list[int]]
"""Label: how often it was said and true, said, and true."""


def counts(said: Array, true: Array) -> Counts:
    """The counts of some rows.

    >>> counts(np.array([0, 0]), np.array([0, 1]))
    {'0': [1, 2, 1], '1': [0, 0, 1]}
    """
    said, true = np.asarray(said), np.asarray(true)
    found: Counts = {}
    for place, labels in enumerate((true[said == true], said, true)):
        for label, number in zip(*np.unique(labels, return_counts=True), strict=True):
            found.setdefault(str(label), [0, 0, 0])[place] = int(number)
    return dict(sorted(found.items()))


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> Counts:
    """The counts of both."""
    zero = [0, 0, 0]
    labels = sorted({*first, *second})
    return {
        label: [a + b for a, b in zip(first.get(label, zero), second.get(label, zero), strict=True)] for label in labels
    }


def macro(part: Mapping[str, Any], figure: Callable[[int, int, int], tuple[int, int]]) -> float:
    """The mean over labels of a fraction (upper, lower) of their counts; 0 where the lower is 0, NaN without rows."""
    fractions = [figure(*triple) for triple in part.values()]
    return sum(upper / lower if lower else 0.0 for upper, lower in fractions) / len(fractions) if part else float("nan")
