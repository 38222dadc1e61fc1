"""Rows to learn from: named columns of equal length, their fields, and the target."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from modelmill.finding import Finding
from modelmill.signature import Field

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Columns by name, each an array whose first axis is the rows, and what is to be predicted.

    A column's dtype is that of its field. Missing values: NaN in floats, "" in strings, NO_DATE in dates.
    """

    fields: tuple[Field, ...]
    columns: Mapping[str, Array]
    target: Array | None = None
    """(rows,) labels as object array of str or as int64, or float32 values, or records of another model's answers; None
    where there is no target."""
    target_name: str = ""
    weights: Array | None = None
    """(rows,) float32 sample weights."""
    groups: Array | None = None
    """(rows,) rows of one group stay on one side of a split."""
    times: Array | None = None
    """(rows,) int64 milliseconds to cut by."""
    origin: str = ""
    """Where the rows come from, as a person would say it: a file's name, a built-in set."""
    test: Dataset | None = None
    """The stated test set, where the source has one."""
    findings: tuple[Finding, ...] = ()
    """What was decided while reading: a target that was found, a column that was left out."""

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def take(self, index: Array) -> Dataset:
        """The rows at `index` (positions or a mask), in that order, without the stated test set."""
        return replace(
            self,
            columns={name: column[index] for name, column in self.columns.items()},
            target=_take(self.target, index),
            weights=_take(self.weights, index),
            groups=_take(self.groups, index),
            times=_take(self.times, index),
            test=None,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, types, columns, target and weights: equal data have equal digests."""
        # Where a graph wants the rows says nothing of the data.
        fields = [
            {name: value for name, value in msgspec.structs.asdict(f).items() if name != "axis"} for f in self.fields
        ]
        total = hashlib.sha256(msgspec.json.encode((fields, self.target_name)))
        for name in [f.name for f in self.fields]:
            _digest(total, self.columns[name])
        for part in (self.target, self.weights):
            if part is not None:
                _digest(total, part)
        if self.test is not None:
            total.update(self.test.digest.encode())
        return "sha256:" + total.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def concat(first: Dataset, second: Dataset) -> Dataset:
    """The rows of two data sets of the same fields, one after the other."""
    return replace(
        first,
        columns={name: np.concatenate([first.columns[name], second.columns[name]]) for name in first.columns},
        target=_join(first.target, second.target),
        weights=_join(first.weights, second.weights),
        groups=_join(first.groups, second.groups),
        times=_join(first.times, second.times),
        test=None,
    )


@dataclass(frozen=True)
class Splits:
    """The three parts of the data: trained on, chosen on, and never seen before the end."""

    train: Dataset
    valid: Dataset
    test: Dataset
    digest: str = field(default="")
    """The digest of the whole data that was split."""


def _take(array: Array | None, index: Array) -> Array | None:
    return None if array is None else array[index]


def _join(first: Array | None, second: Array | None) -> Array | None:
    return None if first is None or second is None else np.concatenate([first, second])


def _digest(total: Any, array: Array) -> None:
    total.update(f"{array.dtype}{array.shape}".encode())
    if array.dtype == object:
        total.update(msgspec.json.encode(array.tolist()))
    else:
        total.update(np.ascontiguousarray(array).data)
