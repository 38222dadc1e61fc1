"""What is watched of a column or an output: a few plain arrays, one value a row."""

from __future__ import annotations

import numpy as np

from modelmill.contracts import Array
from modelmill.signature import NO_DATE

CHUNK = 1024
"""Images that are summed up at once, so that a large set is never held twice."""


def kind_of(name: str, answers: Array) -> str:
    """How an output is watched: as the greatest probability, as labels, or as numbers."""
    if name == "probabilities":
        return "confidence"
    if answers.dtype.kind not in "f":
        return "category"
    return "number" if answers.ndim == 1 else "array"


def aspects(kind: str, values: Array) -> dict[str, Array]:
    """Aspect to (rows,) array: float64 for numbers, objects of str for categories, booleans for what is or is not.

    A missing category is a category of its own, "".

    >>> aspects("date", np.array([0, NO_DATE]))["missing"].tolist()
    [False, True]
    """
    if kind in ("image", "sequence", "array"):
        return _summed_up(values.reshape(len(values), -1))
    if kind == "confidence":
        return {"values": values.max(axis=1).astype(np.float64)}
    if kind == "category":
        return {"values": values.astype(object)}
    if kind == "boolean":
        return {"values": _words(values)}
    gaps = values == NO_DATE if kind == "date" else np.isnan(values.astype(np.float64))
    return {"values": np.where(gaps, np.nan, values.astype(np.float64)), "missing": gaps}


def _words(values: Array) -> Array:
    numbers = values.astype(np.float64)
    found: Array = np.where(np.isnan(numbers), "", np.where(numbers > 0, "true", "false")).astype(object)
    return found


def _summed_up(rows: Array) -> dict[str, Array]:
    """Of every image or array its mean, its standard deviation, and the share of it that is dark.

    Dark is what lies in the lower half of the image's own range, so that nothing needs to be known of the unit.
    """
    parts = [_figures(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
    table = np.concatenate([np.empty((0, 4)), *parts])
    mean, spread, dark, gaps = table.T
    return {"mean": mean, "spread": spread, "dark": dark, "missing": gaps > 0}


def _figures(rows: Array) -> Array:
    """(rows, 4): mean, standard deviation, dark share, and 1 where a value is missing: the others are NaN there."""
    numbers = rows.astype(np.float64)
    middle = (numbers.min(axis=1, keepdims=True) + numbers.max(axis=1, keepdims=True)) / 2
    gaps = np.isnan(numbers).any(axis=1)
    dark = np.where(gaps, np.nan, (numbers <= middle).mean(axis=1))
    return np.stack([numbers.mean(axis=1), numbers.std(axis=1), dark, gaps], axis=1)
