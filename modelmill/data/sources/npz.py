"""Arrays in a NumPy file: x, y and perhaps a stated test set."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from modelmill.contracts import Source
from modelmill.data.archive import read_arrays
from modelmill.data.arrays import dataset, labels, with_test
from modelmill.data.cells import Array
from modelmill.data.files import existing
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, UnknownName, UsageError


class Npz(Source):
    """Arrays named x and y in an .npz file, with x_test and y_test where there is a stated test set.

    x is (rows, features), or images (rows, height, width[, channels]) with raw pixel values; or sequences (rows, steps)
    or (rows, steps, channels), where `kind` says so. Pickled objects are refused.
    """

    path: str
    """The file."""
    kind: Literal["auto", "sequence"] = "auto"
    """What the rows of x are: a table or images, by their axes; or sequences, all of one length."""

    def __call__(self) -> Dataset:
        """Read the arrays. Errors name the file and the array."""
        if self.types:
            raise UsageError("data.types", "arrays have no columns to state types for", "Leave the setting out.")
        arrays = self._read(self.path)
        target = self.target or "y"
        train = dataset(arrays["x"], arrays[target], existing(self.path).name, target, self.kind)
        data = self._with_roles(train, arrays)
        if self.test:
            other = self._read(self.test)
            return with_test(data, dataset(other["x"], other[target], existing(self.test).name, target, self.kind))
        if "x_test" in arrays:
            where = f"{existing(self.path).name} (test)"
            return with_test(data, dataset(arrays["x_test"], arrays[f"{target}_test"], where, target, self.kind))
        return data

    def _read(self, path: str) -> dict[str, Array]:
        arrays = read_arrays(existing(path))
        if self.target and self.target not in arrays:
            raise UnknownName.among(path, "target array", self.target, arrays)
        for role in ("group", "time", "weight"):
            name = getattr(self, role)
            if name and name not in arrays and path == self.path:
                raise UnknownName.among(f"{path}: {role}", "array", name, arrays)
        needed = ["x", self.target or "y"] + [f"{self.target or 'y'}_test"] * ("x_test" in arrays and not self.test)
        for name in needed:
            if name not in arrays:
                held = ", ".join(sorted(arrays)) or "nothing"
                raise ContentError(
                    path, f"holds no array {name!r}, but {held}", "Name the arrays x, y, x_test, y_test."
                )
        return arrays

    def _with_roles(self, data: Dataset, arrays: dict[str, Array]) -> Dataset:
        roles = {role: arrays[getattr(self, role)] for role in ("group", "time", "weight") if getattr(self, role)}
        for role, array in roles.items():
            if array.shape != (data.rows,):
                message = f"the {role} {getattr(self, role)!r} has the shape {array.shape}; expected ({data.rows},)"
                raise ContentError(data.origin, message, "Give one value a row, and a target for every row.")
        weights, groups, times = roles.get("weight"), roles.get("group"), roles.get("time")
        if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ContentError(data.origin, "the weights are not all numbers of at least 0", "Correct them.")
        return replace(
            data,
            weights=None if weights is None else weights.astype(np.float32),
            groups=None if groups is None else labels(groups, "group").astype(str).astype(object),
            times=None if times is None else _milliseconds(times),
        )


def _milliseconds(times: Array) -> Array:
    return times.astype("datetime64[ms]").astype(np.int64) if times.dtype.kind == "M" else times.astype(np.int64)
