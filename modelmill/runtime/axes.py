"""Where the rows lie: columns of rows have them first, a tensor of a graph where its field says, or nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelmill.contracts import Array
from modelmill.errors import RequestError
from modelmill.signature import Field


def tensor(field: Field, column: Array) -> Array:
    """The tensor that a graph takes, of a column of rows.

    Raises RequestError where the graph takes one value for all rows of a call, and theirs differ.

    >>> tensor(Field("state", "FP32", (2, -1), axis=1), np.ones((3, 2))).shape
    (2, 3)
    """
    if field.axis is None and len(column) > 1 and not equal(column[1:], column[:-1]).all():
        message = "is one value for all rows of a call, and these rows have different ones"
        raise RequestError(f"inputs.{field.name}", message, "Ask for rows with equal values together.")
    return placed(column, field.axis)


def placed(column: Array, axis: int | None) -> Array:
    """A column with its rows where the tensor has them; the first one's value where it has them nowhere."""
    if axis is None:
        return np.asarray(column[0])
    return column if axis == 0 else np.ascontiguousarray(np.moveaxis(column, 0, axis))


def rows_first(values: Array, axis: int | None, rows: int) -> Array:
    """A tensor as one value a row; what a graph gives once for all rows is every row's.

    >>> rows_first(np.zeros((2, 3)), 1, 3).shape, rows_first(np.zeros(2), None, 3).shape
    ((3, 2), (3, 2))
    """
    if axis is None:
        return np.broadcast_to(values, (rows, *values.shape))
    return values if axis == 0 else np.moveaxis(values, axis, 0)


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape is what is wanted, where -1 is any size.

    >>> fits((2, 5), (2, -1)), fits((2, 5), (2,))
    (True, False)
    """
    return len(shape) == len(wanted) and all(w in (-1, size) for w, size in zip(wanted, shape, strict=True))


def equal(first: Array, second: Array) -> Array:
    """Where two arrays hold the same, NaN being the same as NaN."""
    same: Array = np.asarray(first == second)
    return same | ((first != first) & (second != second)) if first.dtype.kind == "f" else same
