"""What a transaction offers, and what runs transactions on one kind of database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

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
