"""Answers as a table in a file: CSV, Parquet, JSON Lines or NPZ, by the file's suffix."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.contracts import Array, Outputs
from modelmill.data.files import source_of, suffix_source
from modelmill.errors import OutOfBounds, SourceError, UsageError
from modelmill.signature import Signature

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".csv", ".parquet", ".jsonl", ".npz")


def check_output(output: Path, source: Path | None) -> None:
    """Refuse an output before any work: one that cannot be written, and one that is, or becomes, what is read.

    source: the file or folder that is read, if any is. Raises UsageError; SourceError for a place where no file can be.
    """
    _check_suffix(output)
    if output.is_dir():
        raise SourceError(str(output), "is a folder", f"Give a file in it, such as {output / 'answers.csv'}.")
    if not output.parent.is_dir():
        raise SourceError(str(output), f"there is no folder {output.parent}", "Make it, or try another folder.")
    if source is None:
        return
    where = f"--output {output}"
    read = [source, *source.iterdir()] if source.is_dir() else [source]
    same = next((file for file in read if output.exists() and output.samefile(file)), None)
    if same is not None:
        raise UsageError(where, f"is what is read ({same}), which the answers would replace", "Name another file.")
    if source.is_dir() and output.parent.samefile(source) and suffix_source(output) == source_of(source):
        message = f"lies in the folder that is read ({source}), which the answers would be part of the next time"
        raise UsageError(where, message, "Write into another folder.")


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise OutOfBounds(f"--output {path}", f"no format for {path.suffix!r}", f"Write one of {', '.join(SUFFIXES)}.")


def write_answers(answers: Outputs, signature: Signature, path: Path | None) -> int:
    """Write one line a row to a file, or CSV to standard output; how many rows.

    The file appears whole or not at all. Raises OutOfBounds for a suffix that is not known.
    """
    rows = len(next(iter(answers.values())))
    if path is None:
        _csv(answers, signature, sys.stdout.buffer)
        return rows
    _check_suffix(path)
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

    from modelmill.runtime.rows import bare, is_by_class

    columns: dict[str, Any] = {}
    for name, array in answers.items():
        if is_by_class(name, array, signature):
            for i, label in enumerate(signature.classes):
                columns[f"probability_{label}"] = np.ascontiguousarray(array[:, i])
        else:
            columns[name] = _column(bare(name, array, signature))
    return pyarrow.table(columns)


def _column(array: Array) -> Any:
    """(rows, ...) as a column: a number or a text a row, or lists of them."""
    import pyarrow

    found = pyarrow.array(array.reshape(-1), pyarrow.string() if array.dtype == object else None)
    for size in array.shape[:0:-1]:
        starts = pyarrow.array(np.arange(0, len(found) + 1, max(size, 1), dtype=np.int32))
        found = pyarrow.ListArray.from_arrays(starts, found)
    return found
