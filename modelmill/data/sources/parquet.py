"""Rows in a Parquet file, or in a folder of them."""

from __future__ import annotations

from modelmill.contracts import Source
from modelmill.data.columnar import read_parquet
from modelmill.data.files import existing
from modelmill.data.table import build
from modelmill.dataset import Dataset


class Parquet(Source):
    """A typed table in a Parquet file, or in a folder that holds parts of one.

    Types are those of the file: a text column is a category, a timestamp is a date.
    """

    path: str
    """The file, or the folder of parts."""

    def __call__(self) -> Dataset:
        """Read the rows. Errors name the file and the row."""
        rows = read_parquet(existing(self.path))
        test = read_parquet(existing(self.test)) if self.test else None
        return build(rows, self, test)
