"""Other databases, through SQLAlchemy: PostgreSQL by postgresql+psycopg://USER:PASSWORD@HOST/NAME."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelmill.errors import MissingExtra, StorageError
from modelmill.store.engine import Connection, Row, close_at_fork

if TYPE_CHECKING:
    import sqlalchemy

ONE_WRITER = "SELECT pg_advisory_xact_lock(3034022781)"
"""PostgreSQL's lock that ends with its transaction: one writer at a time, as in SQLite. The number is ours alone."""


class Alchemy:
    """Transactions on a database that SQLAlchemy has a driver for."""

    def __init__(self, url: str) -> None:
        self._url = url
        close_at_fork(self)

    @cached_property
    def where(self) -> str:
        """The URL with its password hidden."""
        return self._engine.url.render_as_string(hide_password=True)

    def begin(self, *, write: bool, durable: bool) -> Connection:
        """A transaction; a server decides itself how durable a commit is."""
        with translated(self.where):
            raw = self._engine.connect()
            try:
                _begin(raw, write)
            except BaseException:
                raw.close()
                raise
        return AlchemyConnection(raw, self.where)

    def end(self, connection: Connection, *, commit: bool) -> None:
        """Commit or roll back, and give the connection back to the pool."""
        assert isinstance(connection, AlchemyConnection)
        with translated(self.where):
            try:
                (connection.raw.commit if commit else connection.raw.rollback)()
            finally:
                connection.raw.close()

    def exists(self, connection: Connection, table: str) -> bool:
        """Whether the database has a table of that name."""
        import sqlalchemy

        assert isinstance(connection, AlchemyConnection)
        with translated(self.where):
            return sqlalchemy.inspect(connection.raw).has_table(table)

    def close(self) -> None:
        """Close the pool, if there is one."""
        if "_engine" in vars(self):
            self._engine.dispose()

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        import sqlalchemy

        try:
            return sqlalchemy.create_engine(self._url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise MissingExtra.of("MODELMILL_DATABASE_URL", error.name or "the driver", "postgresql") from error
        except sqlalchemy.exc.ArgumentError as error:
            raise StorageError(
                "MODELMILL_DATABASE_URL", "the value is no URL of a database", "postgresql+psycopg://USER@HOST/NAME"
            ) from error


class AlchemyConnection:
    """One transaction through SQLAlchemy."""

    def __init__(self, raw: sqlalchemy.Connection, where: str) -> None:
        self.raw = raw
        self.where = where

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """All rows that a query gives."""
        import sqlalchemy

        with translated(self.where):
            return [tuple(row) for row in self.raw.execute(sqlalchemy.text(sql), dict(parameters or {}))]

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """The first row that a query gives, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """How many rows a statement changed."""
        import sqlalchemy

        with translated(self.where):
            return self.raw.execute(sqlalchemy.text(sql), dict(parameters or {})).rowcount


def _begin(raw: sqlalchemy.Connection, write: bool) -> None:
    """One view of the data for a reader; for a writer, the lock first, so that what it then reads is the newest."""
    import sqlalchemy

    if raw.dialect.name == "sqlite":
        raw.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
    elif write:
        raw.execute(sqlalchemy.text(ONE_WRITER))
    else:
        raw.execution_options(isolation_level="REPEATABLE READ")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Tell SQLAlchemy's errors as StorageErrors."""
    import sqlalchemy

    try:
        yield
    except sqlalchemy.exc.SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise StorageError(
            where, f"the database refuses: {cause}", "Check that the server runs and lets you in."
        ) from error
