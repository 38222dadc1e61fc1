"""Rows cut to the calls that a graph takes: so many at most, or a fixed number, to which the last row is repeated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from modelmill.contracts import Array, Outputs
from modelmill.errors import RequestError
from modelmill.runtime.rows import by_row
from modelmill.signature import Field, Signature

Index = slice | Array

Piece = tuple[Mapping[str, Array], int]
"""The tensors of a call, and how many of its rows count."""


def cuts(low: int, high: int, size: int, fixed: bool) -> Iterator[tuple[Index, int]]:
    """The rows of one call after another, at most `size` in each, or with `fixed` as many; and how many of them count.

    >>> [(index, count) for index, count in cuts(3, 6, 2, fixed=False)]
    [(slice(3, 5, None), 2), (slice(5, 6, None), 1)]
    """
    for start in range(low, high, size):
        stop = min(start + size, high)
        whole = not fixed or stop - start == size
        yield slice(start, stop) if whole else np.minimum(np.arange(start, start + size), stop - 1), stop - start


def rows_of_a_call(inputs: Iterable[Field]) -> int:
    """How many rows a call has; -1 for any number."""
    return max((field.rows for field in inputs), default=-1)


def rows_together(signature: Signature) -> int:
    """How many rows a call has that belong together, so that they are not cut; -1 where rows may be cut."""
    return rows_of_a_call(signature.inputs) if signature.series else -1


def check_together(signature: Signature, rows: int) -> None:
    """Refuse rows that belong together, and are not as many as a call has. Raises RequestError."""
    size = rows_together(signature)
    if size not in (-1, rows):
        message = f"came {rows}, and the model takes {size} at a time, which are a series"
        raise RequestError("rows", message, f"Ask for {size} at a time.")


def pieces(tensors: Mapping[str, Array], signature: Signature, rows: int) -> Iterable[Piece]:
    """The tensors of so many rows as calls of the number that the graph takes. Raises RequestError for a series.

    >>> signature = Signature("compute", (Field("x", "FP32", (2, 1)),), ())
    >>> [(piece["x"].tolist(), count) for piece, count in pieces({"x": np.array([[1], [2], [3]])}, signature, 3)]
    [([[1], [2]], 2), ([[3], [3]], 1)]
    """
    size = rows_of_a_call(signature.inputs)
    if size in (-1, rows):
        return [(tensors, rows)]
    check_together(signature, rows)
    return (
        ({field.name: _at(tensors[field.name], field.axis, index) for field in signature.inputs}, count)
        for index, count in cuts(0, rows, size, fixed=True)
    )


def joined(parts: Sequence[tuple[Outputs, int]], signature: Signature) -> dict[str, Array]:
    """What the calls of some rows gave, the rows first in every output; each with how many of its rows count."""
    found = [by_row(outputs, signature, count) for outputs, count in parts]
    if len(found) == 1 and rows_of_a_call(signature.inputs) in (-1, parts[0][1]):
        return found[0]
    return {
        name: np.concatenate([part[name][:count] for part, (_, count) in zip(found, parts, strict=True)])
        for name in found[0]
    }


def _at(tensor: Array, axis: int | None, index: Index) -> Array:
    """A tensor with some of its rows."""
    return tensor if axis is None else np.ascontiguousarray(tensor[(slice(None),) * axis + (index,)])
