"""SQLite by Python's own driver: many readers beside one writer, in one file."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import finalize

from modelmill.errors import StorageError
from modelmill.store.disk import make_folder, refused, sync_folder
from modelmill.store.engine import Connection, Row, close_at_fork
from modelmill.store.rescue import damaged, rescue

WAIT_S = 30.0
"""How long a writer waits for the one before it."""


class Sqlite:
    """Transactions on one SQLite file; connections wait for the next transaction, and never cross a fork."""

    def __init__(self, url: str) -> None:
        self.path = path_of(url)
        self.where = str(self.path)
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        close_at_fork(self)
        finalize(self, _close_each, self._idle)

    def begin(self, *, write: bool, durable: bool) -> Connection:
        """A transaction; a writing one takes the lock at once, so that it can never fail halfway for want of it."""
        connection = SqliteConnection(self._take(), self.where)
        try:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        except BaseException:
            connection.raw.close()
            raise
        return connection

    def end(self, connection: Connection, *, commit: bool) -> None:
        """Commit or roll back; a connection that failed to do so is not used again."""
        assert isinstance(connection, SqliteConnection)
        try:
            if connection.raw.in_transaction:
                connection.execute("COMMIT" if commit else "ROLLBACK")
        except BaseException:
            connection.raw.close()
            raise
        with self._lock:
            self._idle.append(connection.raw)

    def exists(self, connection: Connection, table: str) -> bool:
        """Whether the file has a table of that name."""
        return bool(connection.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :t", {"t": table}))

    def close(self) -> None:
        """Close the connections that wait for work."""
        with self._lock:
            _close_each(self._idle)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        make_folder(self.path.parent)
        self._make_file()
        with translated(self.where):
            raw = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
            try:
                raw.execute("PRAGMA foreign_keys = ON")
                _write_ahead(raw)
            except BaseException:
                raw.close()
                raise
        return raw

    def _make_file(self) -> None:
        """The empty file, readable by its owner alone; SQLite gives its other files the same permissions."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            sync_folder(self.path.parent)
        except FileExistsError:
            return
        except OSError as error:
            raise refused(self.path, error) from error


def _close_each(idle: list[sqlite3.Connection]) -> None:
    while idle:
        idle.pop().close()


class SqliteConnection:
    """One SQLite transaction."""

    def __init__(self, raw: sqlite3.Connection, where: str) -> None:
        self.raw = raw
        self.where = where

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """All rows that a query gives."""
        with translated(self.where):
            return self.raw.execute(sql, dict(parameters or {})).fetchall()

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """The first row that a query gives, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """How many rows a statement changed."""
        with translated(self.where):
            return self.raw.execute(sql, dict(parameters or {})).rowcount


def path_of(url: str) -> Path:
    """The file that an SQLite URL names.

    >>> path_of("sqlite:////srv/mill/modelmill.db").as_posix()
    '/srv/mill/modelmill.db'
    """
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.startswith(":memory:"):
        raise StorageError(
            "MODELMILL_DATABASE_URL", f"{url!r} names no file", "Several processes share it: sqlite:///PATH."
        )
    return Path(path).expanduser().absolute()


def _write_ahead(raw: sqlite3.Connection) -> None:
    """Turn the write-ahead log on; SQLite does not wait by itself where two processes do so at once."""
    deadline = time.monotonic() + WAIT_S
    while raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            raw.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Tell SQLite's errors as StorageErrors that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        saved = rescue(Path(where)) if damaged(str(error)) else None
        raise StorageError(where, f"the database refuses: {error}", _advice(str(error), where, saved)) from error


def _advice(message: str, where: str, saved: Path | None) -> str:
    if damaged(message):
        kept = f" It was left as it is, and copied to {saved}." if saved else ""
        return (
            f"The file is damaged.{kept} Move it away, with the -wal and -shm beside it, and put a copy in its place; "
            f"`sqlite3 {where} .recover` saves what is left. The blobs are untouched."
        )
    if "locked" in message:
        return "Another process is writing to it; try again when it is done."
    if "full" in message or "disk I/O" in message or "too big" in message:
        return "Free some space on the disk, and give the same command again: what was written before is kept."
    if "readonly" in message or "unable to open" in message:
        return "Check who owns the file and its folder, or set MODELMILL_HOME to a folder of yours."
    return "`modelmill doctor` says more."
