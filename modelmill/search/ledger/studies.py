"""Reads the ledger for those who look on: its studies, and their trials with the curves of those that run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from modelmill.errors import UsageError
from modelmill.search.ledger import owner
from modelmill.search.ledger.rows import readable
from modelmill.spec import Goal, read
from modelmill.store.database import Database
from modelmill.store.engine import Connection
from modelmill.trial import Point, Trial

COLUMNS = "id, spec, state, created_ms, data_digest, seed, seconds, owner"


class StudyRow(msgspec.Struct, frozen=True):
    """One study as a list shows it."""

    id: int
    name: str
    state: Literal["running", "finished", "interrupted"]
    """One whose process is gone counts as interrupted."""
    goal: Goal
    counts: dict[str, int]
    """State: how many of its trials stand so."""
    created_ms: int
    seconds: float
    """What its runs have taken so far."""
    seed: int
    data_digest: str
    spec: dict[str, Any]


def studies(database: Database) -> list[StudyRow]:
    """Every study of the ledger, the newest first."""
    counted: dict[int, dict[str, int]] = {}
    with database.reading() as connection:
        rows = connection.rows(f"SELECT {COLUMNS} FROM studies ORDER BY id DESC")
        states = connection.rows("SELECT study_id, state, COUNT(*) FROM trials GROUP BY study_id, state")
        for study, state, count in states:
            counted.setdefault(int(study), {})[state] = int(count)
    return [_study(database, row, counted.get(int(row[0]), {})) for row in rows]


def study(database: Database, id: int) -> StudyRow:
    """One study. Raises UsageError where there is none of that number."""
    with database.reading() as connection:
        row = connection.row(f"SELECT {COLUMNS} FROM studies WHERE id = :id", {"id": id})
        states = connection.rows("SELECT state, COUNT(*) FROM trials WHERE study_id = :id GROUP BY state", {"id": id})
        if row is None:
            last = connection.row("SELECT MAX(id) FROM studies")
            known = f"The newest is {last[0]}." if last and last[0] is not None else "There is none yet."
            raise UsageError("study", f"there is no study {id}", known)
    return _study(database, row, {state: int(count) for state, count in states})


def trials_of(database: Database, id: int) -> list[Trial]:
    """All trials of a study in the order of their numbers; those that run with the points they have reported."""
    with database.reading() as connection:
        bodies = connection.rows("SELECT body FROM trials WHERE study_id = :id ORDER BY number", {"id": id})
        decoder = msgspec.json.Decoder(Trial)
        with readable(database, f"a trial of study {id}"):
            curves = _curves(connection, id)
            found = [decoder.decode(body) for (body,) in bodies]
    return [_with_curve(trial, curves.get(trial.number, ())) for trial in found]


def _curves(connection: Connection, id: int) -> dict[int, list[Point]]:
    """The points of the trials that run."""
    decoder = msgspec.json.Decoder(Point)
    curves: dict[int, list[Point]] = {}
    query = (
        "SELECT points.number, points.body FROM points JOIN trials "
        "ON trials.study_id = points.study_id AND trials.number = points.number "
        "WHERE points.study_id = :id AND trials.state = 'running' ORDER BY points.number, points.place"
    )
    for number, body in connection.rows(query, {"id": id}):
        curves.setdefault(int(number), []).append(decoder.decode(body))
    return curves


def _with_curve(trial: Trial, curve: Sequence[Point]) -> Trial:
    return msgspec.structs.replace(trial, curve=tuple(curve)) if trial.state == "running" and curve else trial


def _study(database: Database, row: Sequence[Any], counts: dict[str, int]) -> StudyRow:
    with readable(database, f"the spec of study {row[0]}"):
        spec = msgspec.json.decode(row[1], type=dict[str, Any])
    return StudyRow(
        id=int(row[0]),
        name=str(spec.get("name") or spec.get("data", {}).get("name") or "model"),
        state=row[2] if row[2] != "running" or owner.lives(row[7]) else "interrupted",
        goal=_goal(spec),
        counts=counts,
        created_ms=int(row[3]),
        seconds=float(row[6]),
        seed=int(row[5]),
        data_digest=row[4],
        spec=spec,
    )


def _goal(spec: dict[str, Any]) -> Goal:
    return read({"data": {}, "goal": spec.get("goal", {})}).goal
