"""Where the rows lie: columns of rows have them first, a tensor of a graph where its field says, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.errors import RequestError
from modelmill.signature import Field

if TYPE_CHECKING:
    from modelmill.runtime.session import Session

Index = slice | Array


def tensor(field: Field, column: Array) -> Array:
    """The tensor that a graph takes, of a column of rows.

    Raises RequestError where the graph takes one value for all rows of a call, and theirs differ.

    >>> tensor(Field("state", "FP32", (2, -1), axis=1), np.ones((3, 2))).shape
    (2, 3)
    """
    if field.axis is not None:
        return column if field.axis == 0 else np.ascontiguousarray(np.moveaxis(column, 0, field.axis))
    if len(column) > 1 and not _equal(column[1:], column[:-1]).all():
        message = "is one value for all rows of a call, and these rows have different ones"
        raise RequestError(f"inputs.{field.name}", message, "Ask for rows with equal values together.")
    return np.asarray(column[0], field.dtype)


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape is what is wanted, where -1 is any size.

    >>> fits((2, 5), (2, -1)), fits((2, 5), (2,))
    (True, False)
    """
    return len(shape) == len(wanted) and all(w in (-1, size) for w, size in zip(wanted, shape, strict=True))


def rows_first(values: Array, axis: int | None, rows: int) -> Array:
    """A tensor as one value a row; what a graph gives once for all rows is every row's.

    >>> rows_first(np.zeros((2, 3)), 1, 3).shape, rows_first(np.zeros(2), None, 3).shape
    ((3, 2), (3, 2))
    """
    if axis is None:
        return np.broadcast_to(values, (rows, *values.shape))
    return values if axis == 0 else np.moveaxis(values, axis, 0)


def call(dataset: Dataset, index: Index) -> dict[str, Array]:
    """The tensors of one call with the rows at `index`."""
    return {field.name: tensor(field, dataset.columns[field.name][index]) for field in dataset.fields}


def calls(dataset: Dataset, most: int) -> Iterator[tuple[Index, int]]:
    """The rows of one call after another, `most` at a time, and how many of them count.

    Less at a time where a graph takes a fixed number, which is filled up with the last row at the end, or where rows
    differ in what is one value for a whole call.
    """
    fixed = max((field.rows for field in dataset.fields), default=-1)
    size = most if fixed < 0 else fixed
    edges = _edges(dataset)
    for low, high in zip([0, *edges], [*edges, dataset.rows], strict=True):
        for start in range(low, high, size):
            stop = min(start + size, high)
            whole = fixed < 0 or stop - start == size
            yield slice(start, stop) if whole else np.minimum(np.arange(start, start + size), stop - 1), stop - start


def _edges(dataset: Dataset) -> list[int]:
    """The places at which a value that holds for a whole call changes."""
    changed = np.zeros(max(dataset.rows - 1, 0), bool)
    for field in dataset.fields:
        if field.axis is None:
            column = dataset.columns[field.name]
            changed |= ~_equal(column[1:], column[:-1]).reshape(len(changed), -1).all(axis=1)
    return [int(place) + 1 for place in np.flatnonzero(changed)]


def _equal(first: Array, second: Array) -> Array:
    same: Array = np.asarray(first == second)
    return same | ((first != first) & (second != second)) if first.dtype.kind == "f" else same


def answers(session: Session, dataset: Dataset, most: int) -> dict[str, Array]:
    """A graph's answers to all rows of a data set, call by call, the rows first in every output."""
    parts = [_answer(session, dataset, index, count) for index, count in calls(dataset, most)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _answer(session: Session, dataset: Dataset, index: Index, count: int) -> dict[str, Array]:
    given = call(dataset, index)
    outputs = session.run({name: given[name] for name in session.inputs})
    rows = count if isinstance(index, slice) else len(index)
    return {name: rows_first(values, session.axes[name], rows)[:count] for name, values in outputs.items()}
