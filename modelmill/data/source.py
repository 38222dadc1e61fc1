"""From what a person calls the data, `digits` or `sales.csv`, to the table of a spec that reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modelmill.data.files import existing, source_of
from modelmill.errors import UnknownName

BUILTINS = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""The built-in sets."""


def guess(source: str) -> dict[str, Any]:
    """The `[data]` table for a source: one with a suffix or a separator is a path, else a name.

    >>> guess("digits")
    {'method': 'builtin', 'name': 'digits'}

    Raises UnknownName for a name that is none, SourceError for a path that leads to no data.
    """
    if is_path(source):
        return {"method": source_of(existing(source)), "path": source}
    if source in BUILTINS:
        return {"method": "builtin", "name": source}
    error = UnknownName.among("data", "built-in set", source, BUILTINS)
    if source and Path(source).exists():
        error = UnknownName("data", error.message, f"For the file or folder write {os.path.join('.', source)}")  # noqa: PTH118 - Path drops the dot
    raise error


def is_path(source: str) -> bool:
    """Whether a source is a path: it has a suffix or a separator.

    >>> is_path("digits"), is_path("sales.csv"), is_path("./sales")
    (False, True, True)
    """
    separators = {os.sep, os.altsep or os.sep, "/"}
    return bool(Path(source).suffix) or source in (".", "..") or any(mark in source for mark in separators)


def default_name(source: str) -> str:
    """What a model of this data is called where nobody says: the built-in's name, or the file's without suffixes.

    >>> default_name("data/sales.csv.gz")
    'sales'
    """
    if not is_path(source):
        return source
    name = Path(source).expanduser().resolve().name
    return name.partition(".")[0] or name
