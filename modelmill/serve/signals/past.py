"""What was counted over the last day, in the database: a replaced worker and a restart begin with it.

A server is a service from its start to its end, with all of its workers. It writes what it has counted since its start
into a row a minute, each greater than the one before; whichever of its workers does so writes the same. So what came in
a window is, of every server of the home, its last count less the one that it had when the window began.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from modelmill.errors import MillError
from modelmill.serve.signals.status import NOTHING, WINDOWS, Counts, total
from modelmill.store.database import Database
from modelmill.store.engine import Connection

KEY = "status"
"""The key of the rows among all counts."""

STEP_S = 60
"""A row holds what was counted until the end of such a step: windows are true to this."""

LATEST = 2**31 - 1
"""No step comes after this one."""

LAST = """SELECT counts.server, counts.body FROM counts JOIN (
        SELECT server, MAX(step) AS step FROM counts WHERE key = :key AND step < :step GROUP BY server
    ) AS last ON counts.key = :key AND counts.server = last.server AND counts.step = last.step"""

WRITE = """INSERT INTO counts (key, server, step, body) VALUES (:key, :server, :step, :body)
    ON CONFLICT (key, server, step) DO UPDATE SET body = excluded.body"""

# Of every server the last row before the day stays, from which the day is reckoned.
THIN = """DELETE FROM counts WHERE key = :key AND step < (
        SELECT MAX(step) FROM counts AS later
        WHERE later.key = :key AND later.server = counts.server AND later.step < :oldest
    )"""

# The rows of servers that have ended before the day.
FORGET = """DELETE FROM counts WHERE key = :key AND server <> :server AND server NOT IN (
        SELECT server FROM counts WHERE key = :key AND step >= :oldest
    )"""

Sums = Mapping[str, Counts]
"""What servers have counted since they started, by server."""


class Past:
    """What every server of a home has counted over the last day; it remembers what it last read.

    database: None for a server that remembers nothing from before its start.
    """

    def __init__(self, database: Database | None, server: str) -> None:
        self.database = database
        self.server = server
        self._written: tuple[int, Counts] | None = None
        self._began: Mapping[str, Sums] = {}
        self._latest: Sums = {}
        self._said = False

    def keep(self, now_s: float, now: Counts) -> None:
        """Write what this server has counted. A database that does not take it is told of once, and asked again."""
        step = int(now_s // STEP_S)
        if self.database is None or self._written == (step, now):
            return
        key = {"key": KEY, "server": self.server}
        try:
            with self.database.writing() as connection:
                connection.execute(WRITE, {**key, "step": step, "body": msgspec.json.encode(now).decode()})
                if self._written is None or self._written[0] != step:
                    oldest = int((now_s - max(WINDOWS.values())) // STEP_S)
                    connection.execute(THIN, {"key": KEY, "oldest": oldest})
                    connection.execute(FORGET, {**key, "oldest": oldest})
        except MillError as error:
            if not self._said:
                print(f"modelmill serve: what /api/status tells is not kept: {error}", file=sys.stderr)
            self._said = True
            return
        self._written, self._said = (step, now), False

    def windows(self, now_s: float, now: Counts) -> dict[str, Counts]:
        """What came in each window. now: what this server has counted until now.

        Where the database cannot be read, it is reckoned from what was last read.
        """
        if self.database is not None:
            try:
                with self.database.reading() as connection:
                    self._began = {name: _sums(connection, int((now_s - s) // STEP_S)) for name, s in WINDOWS.items()}
                    self._latest = _sums(connection, LATEST)
            except MillError:
                pass  # following the registry fails as well, and that is told of
        latest = {**self._latest, self.server: now}
        return {name: _between(self._began.get(name, {}), latest) for name in WINDOWS}


def _sums(connection: Connection, step: int) -> Sums:
    """What every server had counted before a step; nothing of one that started later."""
    return {server: _read(body) for server, body in connection.rows(LAST, {"key": KEY, "step": step})}


def _read(body: str) -> Counts:
    """The counts in a row; without times where another release counted those in other buckets."""
    found = msgspec.json.decode(body, type=Counts)
    return found if len(found.durations) == len(NOTHING.durations) else replace(found, durations=NOTHING.durations)


def _between(began: Sums, latest: Sums) -> Counts:
    return total([counted.since(began.get(server, NOTHING)) for server, counted in latest.items()])
