"""Reads what the ledger holds as JSON; a row that cannot be read is told, and the database is copied first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from modelmill.errors import StorageError
from modelmill.store.database import Database
from modelmill.store.rescue import rescue


@contextmanager
def readable(database: Database, what: str) -> Iterator[None]:
    """Tell a row that is damaged as a StorageError that says what to do; what: the row, as a person would name it."""
    try:
        yield
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError) as error:
        path = Path(database.where)
        saved = rescue(path) if path.is_file() else None
        kept = f"The database was copied to {saved}. " if saved else ""
        hint = f"{kept}Restore it from a copy, or begin another search with --fresh."
        raise StorageError(database.where, f"{what} cannot be read: {error}", hint) from None
