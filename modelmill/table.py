"""Answers as a table in a file: CSV, Parquet, JSON Lines or NPZ, by the file's suffix."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.contracts import Array, Outputs
from modelmill.errors import OutOfBounds, SourceError
from modelmill.signature import Signature

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".csv", ".parquet", ".jsonl", ".npz")


def write_answers(answers: Outputs, signature: Signature, path: Path | None) -> int:
    """Write one line a row to a file, or CSV to standard output; how many rows.

    The file appears whole or not at all. Raises OutOfBounds for a suffix that is not known.
    """
    rows = len(next(iter(answers.values())))
    if path is None:
        _csv(answers, signature, sys.stdout.buffer)
        return rows
    if path.suffix not in SUFFIXES:
        raise OutOfBounds(f"--output {path}", f"no format for {path.suffix!r}", f"Write one of {', '.join(SUFFIXES)}.")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            _write(path.suffix, answers, signature, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SourceError(str(path), f"cannot be written: {error.strerror}", "Try another folder.") from None
    return rows


def _write(suffix: str, answers: Outputs, signature: Signature, file: Any) -> None:
    if suffix == ".csv":
        _csv(answers, signature, file)
    elif suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(to_table(answers, signature), file)
    elif suffix == ".npz":
        arrays: dict[str, Any] = {name: _plain(array) for name, array in answers.items()}
        np.savez(file, **arrays)
    else:
        import orjson

        from modelmill.runtime.rows import to_json

        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in to_json(answers, signature))


def _plain(array: Array) -> Array:
    """Strings as numpy's own type: an object array would be a pickle."""
    return array.astype(str) if array.dtype == object else array


def _csv(answers: Outputs, signature: Signature, file: Any) -> None:
    import pyarrow.csv

    pyarrow.csv.write_csv(as_text(to_table(answers, signature)), file)


def as_text(table: pyarrow.Table) -> pyarrow.Table:
    """The table as CSV can hold it: what is an array in every row is JSON in its cell."""
    import orjson
    import pyarrow

    for place, name in enumerate(table.column_names):
        if pyarrow.types.is_list(table[name].type):
            cells = [orjson.dumps(cell).decode() for cell in table[name].to_pylist()]
            table = table.set_column(place, name, pyarrow.array(cells))
    return table


def to_table(answers: Outputs, signature: Signature) -> pyarrow.Table:
    """A column an output; `probabilities` becomes one column a class."""
    import pyarrow

    columns: dict[str, Any] = {}
    for name, array in answers.items():
        if array.ndim == 2 and array.shape[1] == len(signature.classes):
            for i, label in enumerate(signature.classes):
                columns[f"probability_{label}"] = np.ascontiguousarray(array[:, i])
        else:
            columns[name] = _column(array)
    return pyarrow.table(columns)


def _column(array: Array) -> Any:
    """(rows, ...) as a column: a number or a text a row, or lists of them."""
    import pyarrow

    found = pyarrow.array(array.reshape(-1), pyarrow.string() if array.dtype == object else None)
    for size in array.shape[:0:-1]:
        starts = pyarrow.array(np.arange(0, len(found) + 1, max(size, 1), dtype=np.int32))
        found = pyarrow.ListArray.from_arrays(starts, found)
    return found
