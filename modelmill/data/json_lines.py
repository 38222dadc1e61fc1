"""Rows in JSON Lines: an object or a list a line, as `POST /predict` takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from modelmill.data.delimited import open_plain
from modelmill.data.naming import as_input
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, RequestError, SourceError
from modelmill.runtime.rows import rows_apart
from modelmill.signature import Signature

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
"""The ends of the names of such files."""

WHERE = re.compile(r"rows\[(\d+)\](.*)")
"""How an error names a row of a list of them."""


def is_json_lines(path: Path) -> bool:
    """Whether a file holds JSON Lines, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_lines(signature: Signature, path: Path) -> Dataset:
    """The rows of a whole file as a model's inputs."""
    try:
        with open_plain(path) as file:
            text = file.read()
    except (OSError, EOFError) as error:
        raise SourceError(str(path), f"cannot be read: {error}", "Check the file.") from None
    if not text.strip():
        raise SourceError(str(path), "is empty", "Write one object or list a line.")
    return fit_lines(signature, text, path)


def fit_lines(signature: Signature, text: bytes, path: Path, first: int = 1) -> Dataset:
    """The rows in lines of JSON as a model's inputs; `first` is the number of the first line.

    Keys that the model does not take are left out. Raises ContentError with the line of a value that does not fit.
    """
    numbered = [(number, line) for number, line in enumerate(text.split(b"\n"), first) if line.strip()]
    rows = [_own(signature, _row(line, f"{path} line {number}")) for number, line in numbered]
    try:
        columns = rows_apart(rows, signature)
    except RequestError as error:
        found = WHERE.match(error.where)
        where = f"{path} line {numbered[int(found[1])][0]}{found[2].replace('.', ' ', 1)}" if found else str(path)
        raise ContentError(where, error.message, error.hint) from None
    return Dataset(signature.inputs, columns, None, signature.target, origin=path.name)


def _row(line: bytes, where: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        hint = "A missing value is null: NaN is not JSON." if b"NaN" in line else "Write one object or list a line."
        raise ContentError(where, f"is not JSON: {error}", hint) from None


def _own(signature: Signature, row: Any) -> Any:
    """A row without the keys that the model does not take, under the names of its inputs."""
    if not isinstance(row, Mapping):
        return row
    inputs = {field.name for field in signature.inputs}
    if inputs == row.keys():
        return row
    named = {as_input(name, list(row)) if name not in inputs else name: value for name, value in row.items()}
    return {name: value for name, value in named.items() if name in inputs}
