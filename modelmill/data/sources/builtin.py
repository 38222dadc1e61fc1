"""The sets that come with scikit-learn, to try things on."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelmill.contracts import Source
from modelmill.data.arrays import dataset, refuse_columns, with_test
from modelmill.data.files import existing, source_of
from modelmill.data.rows import Rows
from modelmill.data.source import BUILTINS
from modelmill.data.table import build
from modelmill.dataset import Dataset
from modelmill.errors import MissingExtra, UnknownName, UsageError
from modelmill.method import decode


class Builtin(Source):
    """A small, known set: digits (images), iris, wine, breast_cancer (classes with names), diabetes (a number).

    Columns are called as scikit-learn calls them; the target is `target`.
    """

    name: str
    """breast_cancer, diabetes, digits, iris or wine."""

    def __call__(self) -> Dataset:
        """Load the set. Raises UnknownName with the closest names."""
        if self.name not in BUILTINS:
            raise UnknownName.among("data.builtin.name", "built-in set", self.name, BUILTINS)
        bunch = _load(self.name)
        if self.name == "digits":
            return self._digits(bunch)
        rows = Rows(_table(bunch), self.name, lambda row: f"{self.name} row {row + 1}")
        source = self if self.target else self.replace(target="target")
        return build(rows, source, _test_rows(self.test) if self.test else None)

    def _digits(self, bunch: Any) -> Dataset:
        refuse_columns(self, "digits")
        if self.target not in ("", "target"):
            raise UnknownName.among("digits", "target column", self.target, ["target"])
        data = dataset(bunch.images.astype(np.float32), bunch.target, "digits", "target")
        if not self.test:
            return data
        method = source_of(existing(self.test))
        if method not in ("npz", "idx"):
            raise UsageError("data.test", "the test set of images is an .npz file or IDX files", "Convert the file.")
        return with_test(data, decode("data", {"method": method, "path": self.test})())


def _load(name: str) -> Any:
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise MissingExtra.of("data.builtin", "scikit-learn", "mill") from error
    return getattr(datasets, f"load_{name}")()


def _table(bunch: Any) -> Any:
    """The set as a pyarrow table: float32 columns, and the target with the names of its classes."""
    import pyarrow

    names = [str(name) for name in bunch.feature_names]
    columns = {name: pyarrow.array(bunch.data[:, i].astype(np.float32)) for i, name in enumerate(names)}
    if "target_names" in bunch:
        target = pyarrow.array([str(name) for name in np.asarray(bunch.target_names)[bunch.target]])
    else:
        target = pyarrow.array(bunch.target.astype(np.float32))
    return pyarrow.table({**columns, "target": target})


def _test_rows(path: str) -> Rows:
    from modelmill.data.read import read_rows

    return read_rows(path, ["target"])
