"""Keeps every trial of a search in the database as it starts and as it ends, so that a dead search can go on."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from modelmill.errors import WorkError
from modelmill.search.ledger import owner
from modelmill.search.ledger.rows import readable
from modelmill.store.database import Database
from modelmill.store.engine import Connection
from modelmill.trial import Point, Trial


class Ledger:
    """The trials of one study in a database; it holds nothing itself."""

    def __init__(self, database: Database, study: int, spent_s: float = 0.0) -> None:
        self._database = database
        self._study = study
        self.spent_s = spent_s
        """Seconds that earlier runs of the study took."""

    @classmethod
    def open(
        cls,
        database: Database,
        key: str,
        spec: Mapping[str, Any],
        *,
        data: str = "",
        seed: int = 0,
        fresh: bool = False,
    ) -> tuple[Ledger, bool]:
        """The study to go on with, and whether it was begun before; a new one where the last of that key is finished.

        key: a digest of all that the trials depend on; `fresh` begins a new study whatever there is. Raises WorkError
        where another living process runs the study: two of them would overwrite each other's trials.
        """
        with database.writing() as connection:
            last = None if fresh else _last_open(connection, key)
            if last is not None:
                study, spent_s = last
                connection.execute(
                    "UPDATE studies SET owner = :owner, state = 'running' WHERE id = :id",
                    {"owner": owner.me(), "id": study},
                )
                begun = connection.row("SELECT 1 FROM trials WHERE study_id = :id LIMIT 1", {"id": study})
                return cls(database, study, spent_s), begun is not None
            return cls(database, _begin(connection, key, spec, data, seed)), False

    def trials(self) -> list[Trial]:
        """All trials in the order of their numbers; those of a dead run may still be `running`."""
        query = "SELECT body FROM trials WHERE study_id = :id ORDER BY number"
        decoder = msgspec.json.Decoder(Trial)
        with _without_collection(), self._database.reading() as connection:
            bodies = connection.rows(query, {"id": self._study})
            with readable(self._database, f"a trial of study {self._study}"):
                return [decoder.decode(body) for (body,) in bodies]

    def write(self, trial: Trial, spent_s: float) -> None:
        """Record how a trial stands, and what the study has spent so far.

        One that begins, or that ended and holds its whole curve itself, has no points beside it.
        """
        place = {"id": self._study, "number": trial.number}
        row = {**place, "state": trial.state, "body": msgspec.json.encode(trial).decode()}
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO trials (study_id, number, state, body) VALUES (:id, :number, :state, :body) "
                "ON CONFLICT (study_id, number) DO UPDATE SET state = excluded.state, body = excluded.body",
                row,
            )
            if trial.state != "running" or not trial.curve:
                connection.execute("DELETE FROM points WHERE study_id = :id AND number = :number", place)
            connection.execute(
                "UPDATE studies SET seconds = :seconds WHERE id = :id", {"seconds": spent_s, "id": self._study}
            )

    def report(self, trial: Trial, point: Point) -> None:
        """Record a point of the curve of a trial that runs."""
        values = {
            "id": self._study,
            "number": trial.number,
            "place": len(trial.curve),
            "body": msgspec.json.encode(point).decode(),
        }
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO points (study_id, number, place, body) VALUES (:id, :number, :place, :body) "
                "ON CONFLICT (study_id, number, place) DO UPDATE SET body = excluded.body",
                values,
            )

    def close(self, state: Literal["finished", "interrupted"]) -> None:
        """Let go of the study: a finished one is never gone on with, an interrupted one is."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE studies SET state = :state, owner = '' WHERE id = :id", {"state": state, "id": self._study}
            )

    def discard(self) -> None:
        """Forget the study where it has no trial, since it was refused before the first; else let go of it."""
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM studies WHERE id = :id AND NOT EXISTS (SELECT 1 FROM trials WHERE study_id = :id)",
                {"id": self._study},
            )
        self.close("interrupted")


@contextmanager
def _without_collection() -> Iterator[None]:
    """Without Python's search for cycles: it takes most of the time where many values are made and none is dropped."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _last_open(connection: Connection, key: str) -> tuple[int, float] | None:
    row = connection.row(
        "SELECT id, state, owner, seconds FROM studies WHERE key = :key ORDER BY id DESC LIMIT 1", {"key": key}
    )
    if row is None or row[1] == "finished":
        return None
    if row[1] == "running" and row[2] != owner.me() and owner.lives(row[2]):
        raise WorkError(
            f"study {row[0]}",
            f"{owner.said(row[2])} is running this search at this moment",
            "Wait for it, or stop it and start again to go on where it was; --fresh begins another one beside it.",
        )
    return int(row[0]), float(row[3])


def _begin(connection: Connection, key: str, spec: Mapping[str, Any], data: str, seed: int) -> int:
    row = connection.row("SELECT COALESCE(MAX(id), 0) + 1 FROM studies")
    assert row is not None, "an aggregate gives a row"
    values = {
        "id": int(row[0]),
        "key": key,
        "spec": msgspec.json.encode(spec).decode(),
        "created": time.time_ns() // 1_000_000,
        "data": data,
        "seed": seed,
        "owner": owner.me(),
    }
    connection.execute(
        "INSERT INTO studies (id, key, spec, state, created_ms, data_digest, seed, seconds, owner) "
        "VALUES (:id, :key, :spec, 'running', :created, :data, :seed, 0, :owner)",
        values,
    )
    return int(row[0])
