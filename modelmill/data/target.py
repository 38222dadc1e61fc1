"""Targets in the form that their task wants: labels as text or whole numbers, values as float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelmill.data.cells import Array
from modelmill.dataset import Dataset
from modelmill.errors import ContentError


def for_task(data: Dataset, task: str) -> Dataset:
    """The data set, and its stated test set, with the target that `task` learns: "classify" or "regress".

    >>> data = Dataset((), {}, np.array([1, 2]), "y")
    >>> for_task(data, "regress").target.dtype
    dtype('float32')

    Raises ContentError where text is to be regressed, or fractions are to be classes.
    """
    if data.target is None:
        return data
    test = None if data.test is None else for_task(data.test, task)
    return replace(data, target=_convert(data.target, task, data), test=test)


def _convert(target: Array, task: str, data: Dataset) -> Array:
    where = f"{data.origin} column {data.target_name}"
    if task == "regress":
        if target.dtype == object:
            raise ContentError(where, f"the target holds text such as {target[0]!r}; expected numbers", "Classify it.")
        return target.astype(np.float32)
    if task == "classify" and target.dtype.kind == "f":
        if (target != np.floor(target)).any():
            hint = "Use the task regress, or give labels."
            raise ContentError(where, "the target holds numbers with fractions; expected classes", hint)
        return target.astype(np.int64)
    return target
