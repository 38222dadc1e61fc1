"""Rows in a CSV file, or in a folder of them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Source
from modelmill.data.cells import is_text
from modelmill.data.delimited import Dialect, column_names, read_parts
from modelmill.data.files import existing
from modelmill.data.table import build, choose_target
from modelmill.dataset import Dataset


class Csv(Source):
    """A table in a text file, or in a folder that holds parts of one; `.gz` too.

    Types are inferred: whole numbers, numbers, true and false, ISO dates, text. An empty value is a missing one.
    """

    path: str
    """The file, or the folder of parts."""
    separator: Annotated[str, Meta(max_length=1)] = ""
    """What parts the values; found in the header where it is not stated."""
    encoding: str = "utf-8"
    """How the bytes make text."""
    decimal: Annotated[str, Meta(min_length=1, max_length=1)] = "."
    """What parts a number from its fraction."""
    header: bool = True
    """Whether the first line holds the names."""

    def __call__(self) -> Dataset:
        """Read, type and check the rows. Errors name the file and the line."""
        dialect = Dialect(self.separator, self.encoding, self.decimal, self.header)
        path = existing(self.path)
        target, _ = choose_target(column_names(path, dialect), path.name, self)
        as_text = [target, *self.types]
        rows = read_parts(path, dialect, as_text)
        # What is text in the training rows stays as it is written in the test rows: 07 is not 7.
        as_text += [name for name in rows.names if is_text(rows.table.schema.field(name).type)]
        test = read_parts(existing(self.test), dialect, as_text) if self.test else None
        return build(rows, self, test)
