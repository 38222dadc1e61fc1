"""The columns of a data set one at a time, as plain codes: what checks and the card look at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelmill.data.cells import Array
from modelmill.dataset import Dataset
from modelmill.signature import NO_DATE, Field

WHOLE = ("image", "sequence")
"""Kinds whose numbers mean nothing one by one."""


def scalars(data: Dataset) -> Iterator[tuple[str, Field, Array]]:
    """Name, field and (rows,) values of every column; an array one for each of its columns; no images, no sequences."""
    for field in data.fields:
        values = data.columns[field.name]
        if field.kind in WHOLE:
            continue
        if values.ndim == 1:
            yield field.name, field, values
        else:
            flat = values.reshape(len(values), -1)
            for number in range(flat.shape[1]):
                yield f"{field.name}[{number}]", field, flat[:, number]


def width(data: Dataset) -> int:
    """How many numbers or texts a row holds, images and sequences aside."""
    return sum(int(np.prod(field.shape[1:])) for field in data.fields if field.kind not in WHOLE)


def codes(values: Array, field: Field) -> Array:
    """(rows,) int64: equal values have equal codes from 0, in order of the values; a missing value is -1."""
    if values.dtype == object:
        texts = values.tolist()
        known = {text: number for number, text in enumerate(sorted(set(texts) - {""}))}
        known[""] = -1
        return np.fromiter((known[text] for text in texts), np.int64, len(texts))
    gaps = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    if field.kind == "date":
        gaps = values == NO_DATE
    found = np.full(len(values), -1, np.int64)
    found[~gaps] = np.unique(values[~gaps], return_inverse=True)[1]
    return found


def target_codes(target: Array) -> Array:
    """(rows,) int64 codes of a target's values."""
    field = Field("target", "BYTES" if target.dtype == object else "INT64")
    return codes(target, field)


def shown(names: list[str], most: int = 5) -> str:
    """Some names as words.

    >>> shown(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    head = ", ".join(names[:most])
    return head if len(names) <= most else f"{head} and {len(names) - most} more"


def share(part: float) -> str:
    """A share as a person reads it.

    >>> share(0.0312), share(0.00001)
    ('3.1 %', 'under 0.1 %')
    """
    return f"{100 * part:.1f} %" if part == 0 or part >= 0.001 else "under 0.1 %"
