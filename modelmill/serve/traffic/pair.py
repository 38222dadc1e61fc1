"""Two versions that were asked the same: whether the candidate failed, was slow, or answered otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]

TINY = 1e-6
"""Numbers that differ by less are the same, however small they are."""


class Run(NamedTuple):
    """What a version gave for some rows, and how long it took; no outputs where it failed."""

    outputs: Outputs | None
    seconds: float


class Pair(NamedTuple):
    """What one mirrored request says of the candidate."""

    live_failed: bool
    candidate_failed: bool
    live_seconds: float
    candidate_seconds: float
    differ: tuple[bool, ...] = ()
    """Row by row, whether the answers differ; nothing where one of them failed."""


def compare(live: Run, candidate: Run, rows: int, near: float) -> Pair:
    """What two runs on the same rows say.

    near: by what share numbers may differ and still be the same.
    """
    failed = not is_valid(live.outputs, rows), not is_valid(candidate.outputs, rows)
    differ: tuple[bool, ...] = ()
    if live.outputs is not None and candidate.outputs is not None and not any(failed):
        differ = tuple(differences(live.outputs, candidate.outputs, rows, near).tolist())
    return Pair(*failed, live.seconds, candidate.seconds, differ)


def is_valid(outputs: Outputs | None, rows: int) -> bool:
    """Whether there are outputs, and every number in them is one: neither NaN nor infinite.

    >>> is_valid({"value": np.array([1.0, np.nan])}, 2), is_valid({"value": np.array([1.0, 2.0])}, 2)
    (False, True)
    """
    if outputs is None:
        return False
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in outputs.values())


def differences(live: Outputs, candidate: Outputs, rows: int, near: float) -> Array:
    """For each row, whether the answers differ: their labels, or, where there are only numbers, these beyond `near`.

    Answers that are not by row count as one row.

    >>> differences({"value": np.array([1.0, 2.0])}, {"value": np.array([1.001, 2.1])}, 2, 0.01)
    array([False,  True])
    """
    names = _decisive(live)
    if any(name not in candidate or candidate[name].shape != live[name].shape for name in names):
        return np.ones(rows, bool)
    found = [_unequal(live[name], candidate[name], near) for name in names]
    if all(len(unequal.shape) and len(unequal) == rows for unequal in found):
        by_row = [unequal.reshape(rows, -1).any(axis=1) for unequal in found if unequal.size]
        return np.logical_or.reduce(by_row) if by_row else np.zeros(rows, bool)
    return np.array([any(bool(unequal.any()) for unequal in found)])


def _decisive(outputs: Outputs) -> Sequence[str]:
    """What an answer is judged by: labels, and other values that are equal or not; else its numbers."""
    exact = [name for name, array in outputs.items() if array.dtype.kind != "f"]
    return exact or list(outputs)


def _unequal(live: Array, candidate: Array, near: float) -> Array:
    if live.dtype.kind != "f" or candidate.dtype.kind != "f":
        return np.asarray(live != candidate)
    return np.asarray(np.abs(live - candidate) > np.abs(live) * near + TINY)
