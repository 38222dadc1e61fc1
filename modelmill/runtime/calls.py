"""Rows of a data set as calls of a graph from anywhere: many rows at once where it takes them, else one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.runtime.session import Session


def calls(session: Session, dataset: Dataset, most: int) -> Iterator[dict[str, Array]]:
    """The inputs of call after call, at most so many rows in each; rows that fill no call of a fixed size are left out.

    A column with one axis more than its input, such as the state of a recurrent network, holds a whole input in every
    row: then each row is a call of its own. Raises ModelError, naming it, for an input without a column that fits.
    """
    lacking = [name for name in session.inputs if name not in dataset.columns]
    if lacking:
        message = f"the graph takes {lacking[0]!r}, which the data have not"
        raise ModelError(
            "the model", message, f"Give it as a column; there are {', '.join(dataset.columns) or 'none'}."
        )
    columns = {name: dataset.columns[name] for name in session.inputs}
    whole = {name for name, column in columns.items() if column.ndim == len(session.shapes[name]) + 1}
    for name, column in columns.items():
        if name not in whole and not _fits(column.shape, session.shapes[name]):
            came, wanted = list(column.shape[1:]), [size or "any" for size in session.shapes[name]]
            message = f"the graph takes {name!r} as {wanted}, rows of {came} came"
            raise ModelError("the model", message, "Give rows of that shape.")
    fixed = {shape[0] for name, shape in session.shapes.items() if name not in whole and shape and shape[0]}
    size = 1 if whole else min(fixed, default=most)
    for start in range(0, dataset.rows - (size - 1 if fixed else 0), size):
        part = slice(start, start + size)
        yield {name: np.asarray(column[start if name in whole else part]) for name, column in columns.items()}


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether rows have the axes of an input, 0 being any size."""
    same = zip(shape[1:], wanted[1:], strict=False)
    return len(shape) == len(wanted) and all(want in (0, size) for size, want in same)
