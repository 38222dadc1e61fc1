"""Rows of a data set as calls of a graph from anywhere: as many at once as it takes, each tensor as it wants it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.runtime.axes import equal, fits, placed, rows_first
from modelmill.runtime.chain import Opened
from modelmill.runtime.pieces import Index, cuts


def calls(session: Opened, dataset: Dataset, most: int) -> Iterator[dict[str, Array]]:
    """The inputs of call after call, at most so many rows in each.

    Fewer where the graph takes a fixed number, which the last row fills up at the end, and where rows differ in what is
    one value for a whole call. Raises ModelError, naming it, for an input without a column that fits.
    """
    columns = _columns(session, dataset)
    for index, _ in _cuts(session, columns, most):
        yield _call(session, columns, index)


def answers(session: Opened, dataset: Dataset, most: int) -> dict[str, Array]:
    """A graph's or a pipeline's answers to all rows of a data set, call by call, the rows first in every output."""
    columns = _columns(session, dataset)
    parts: dict[str, list[Array]] = {name: [] for name in session.outputs}
    for index, count in _cuts(session, columns, most):
        given = _call(session, columns, index)
        rows = count if isinstance(index, slice) else len(index)
        for name, values in session.run(given).items():
            parts[name].append(rows_first(values, session.axes[name], rows)[:count])
    return {name: np.concatenate(found) for name, found in parts.items()}


def _columns(session: Opened, dataset: Dataset) -> dict[str, Array]:
    """The columns that the graph takes, the rows first in every one."""
    for name in session.inputs:
        if name not in dataset.columns:
            hint = f"Give it as a column; there are {', '.join(dataset.columns) or 'none'}."
            raise ModelError("the model", f"the graph takes {name!r}, which the data have not", hint)
        wanted = [size for place, size in enumerate(session.shapes[name]) if place != session.axes[name]]
        came = dataset.columns[name].shape[1:]
        if not fits(came, wanted):
            shown = ["any" if size < 0 else size for size in wanted]
            message = f"the graph takes {name!r} as {shown}, rows of {list(came)} came"
            raise ModelError("the model", message, "Give rows of that shape.")
    return {name: dataset.columns[name] for name in session.inputs}


def _call(session: Opened, columns: dict[str, Array], index: Index) -> dict[str, Array]:
    return {name: placed(column[index], session.axes[name]) for name, column in columns.items()}


def _cuts(session: Opened, columns: dict[str, Array], most: int) -> Iterator[tuple[Index, int]]:
    """The rows of one call after another, and how many of them count."""
    rows = len(next(iter(columns.values()))) if columns else 0
    places = ((session.shapes[name], session.axes[name]) for name in columns)
    fixed = max((shape[axis] for shape, axis in places if axis is not None), default=-1)
    size = most if fixed < 0 else fixed
    edges = _edges([column for name, column in columns.items() if session.axes[name] is None], rows)
    for low, high in zip([0, *edges], [*edges, rows], strict=True):
        yield from cuts(low, high, size, fixed > 0)


def _edges(columns: list[Array], rows: int) -> list[int]:
    """The places at which a value that holds for a whole call changes."""
    if rows < 2:
        return []
    changed = np.zeros(rows - 1, bool)
    for column in columns:
        changed |= ~equal(column[1:], column[:-1]).reshape(len(changed), -1).all(axis=1)
    return [int(place) + 1 for place in np.flatnonzero(changed)]
