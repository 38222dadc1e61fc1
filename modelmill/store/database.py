"""One database for everything that must last: SQLite in the home folder, or PostgreSQL when its URL is given.

Statements are plain SQL with `:name` parameters. SQLite runs them by Python's own driver, since importing SQLAlchemy
takes longer than any command here may; other databases run the same statements through SQLAlchemy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from modelmill.errors import RegistryError, StorageError
from modelmill.store import tables
from modelmill.store.engine import Connection, Engine


class Database:
    """Transactions on one database, which is opened, and made where it is missing, at the first of them.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> database = Database(f"sqlite:///{folder.name}/modelmill.db")
    >>> with database.writing() as connection:
    ...     connection.execute("UPDATE stamp SET changes = changes + :by", {"by": 2})
    1
    >>> with database.reading() as connection:
    ...     connection.row("SELECT changes FROM stamp")
    (2,)
    >>> database.close(); folder.cleanup()
    """

    def __init__(self, url: str) -> None:
        self._engine = engine_of(url)
        self._opening = threading.Lock()
        self._ready = False

    @property
    def where(self) -> str:
        """The database as error messages name it: without any password."""
        return self._engine.where

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of the data; writers neither wait for it nor are seen by it."""
        self._open()
        with self._transaction(write=False, durable=False) as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[Connection]:
        """The only writer: all of its changes are kept when the block ends, and none when it raises.

        Changes survive the death of the process; with `durable` they survive a power cut as well, once the block ended.
        Do not nest: the inner one would wait for the outer.
        """
        self._open()
        with self._transaction(write=True, durable=durable) as connection:
            yield connection

    def close(self) -> None:
        """Let go of the connections; the next transaction opens anew."""
        self._engine.close()

    @contextmanager
    def _transaction(self, *, write: bool, durable: bool) -> Iterator[Connection]:
        connection = self._engine.begin(write=write, durable=durable)
        try:
            yield connection
        except BaseException:
            self._engine.end(connection, commit=False)
            raise
        self._engine.end(connection, commit=write)

    def _open(self) -> None:
        if self._ready:
            return
        with self._opening:
            if not self._ready:
                self._prepare()
                self._ready = True

    def _prepare(self) -> None:
        with self._transaction(write=False, durable=False) as connection:
            version = self._version(connection)
        if version == tables.VERSION:
            return
        with self._transaction(write=True, durable=True) as connection:
            # Asked again: another process may have made the tables between the two transactions.
            version = self._version(connection)
            for statement in _statements(version, self.where):
                connection.execute(statement)
            changes = {"version": tables.VERSION}
            if not connection.execute("UPDATE schema_version SET version = :version", changes):
                connection.execute("INSERT INTO schema_version (version) VALUES (:version)", changes)
                connection.execute("INSERT INTO stamp (changes) VALUES (0)")

    def _version(self, connection: Connection) -> int | None:
        if not self._engine.exists(connection, "schema_version"):
            return None
        row = connection.row("SELECT version FROM schema_version")
        if row is None:
            raise StorageError(self.where, "the table schema_version is empty", "Restore the database from a copy.")
        return int(row[0])


def _statements(version: int | None, where: str) -> Iterator[str]:
    """What leads from a schema to the present one."""
    if version is None:
        yield from tables.TABLES
        return
    if version > tables.VERSION:
        raise RegistryError(
            where,
            f"its schema is version {version}, and this modelmill knows up to version {tables.VERSION}",
            "Install the newer modelmill that wrote it, or set MODELMILL_HOME to another folder.",
        )
    for step in range(version, tables.VERSION):
        yield from tables.STEPS[step]


def engine_of(url: str) -> Engine:
    """What runs transactions on the database at `url`."""
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        from modelmill.store.sqlite import Sqlite

        return Sqlite(url)
    if scheme.partition("+")[0] in {"postgresql", "sqlite"}:
        from modelmill.store.alchemy import Alchemy

        return Alchemy(url)
    raise StorageError(
        "MODELMILL_DATABASE_URL",
        f"{scheme or 'an empty value'!r} is no database that modelmill knows",
        "It takes sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
    )
