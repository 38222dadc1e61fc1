"""What a transaction offers, and what runs transactions on one kind of database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakSet

Row = tuple[Any, ...]


class Connection(Protocol):
    """A transaction: statements with `:name` parameters."""

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """All rows that a query gives."""

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """The first row that a query gives, or None."""

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """How many rows a statement changed."""


class Engine(Protocol):
    """What runs transactions on one kind of database."""

    @property
    def where(self) -> str:
        """The database as error messages name it."""

    def begin(self, *, write: bool, durable: bool) -> Connection:
        """A transaction that sees one state of the data; a writing one is the only writer."""

    def end(self, connection: Connection, *, commit: bool) -> None:
        """Commit or roll back."""

    def exists(self, connection: Connection, table: str) -> bool:
        """Whether the database has a table of that name."""

    def close(self) -> None:
        """Let go of everything that is open."""


_engines: WeakSet[Engine] = WeakSet()


def close_at_fork(engine: Engine) -> None:
    """Have an engine let go of what waits for work before this process forks.

    A child that inherits an open file of SQLite would rely on locks that are its parent's; one that inherits a socket
    would speak on it between its parent's words.
    """
    _engines.add(engine)


def _close_all() -> None:
    for engine in list(_engines):
        engine.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_all)
