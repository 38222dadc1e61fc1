"""What ends a rollout from below: its row and its history, for whoever moves the live version or deletes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from modelmill.store import audit
from modelmill.store.audit import Actor
from modelmill.store.engine import Connection

NAMING = "name = :name AND state = 'running' AND (number = :number OR base = :number)"
"""Of rollouts on their way, those that need a version."""


class Turn(NamedTuple):
    """What a rollout has come to, and why."""

    rollout: int
    reference: str
    """NAME@NUMBER of the candidate."""
    state: str
    share: float
    reason: str


def write_down(connection: Connection, turn: Turn, at_ms: int, evidence: Mapping[str, Any], actor: Actor) -> None:
    """Keep a turn of a rollout in its history, and in the audit log."""
    told = {"share": turn.share, "reason": turn.reason, "rollout": turn.rollout}
    audit.write(connection, actor, f"rollouts.{turn.state}", turn.reference, told)
    connection.execute(
        "INSERT INTO rollout_steps (rollout_id, place, at_ms, state, share, reason, evidence)"
        " SELECT :rollout, COALESCE(MAX(place), 0) + 1, :at_ms, :state, :share, :reason, :evidence"
        " FROM rollout_steps WHERE rollout_id = :rollout",
        {
            "rollout": turn.rollout,
            "at_ms": at_ms,
            "state": turn.state,
            "share": turn.share,
            "reason": turn.reason,
            "evidence": msgspec.json.encode(evidence).decode(),
        },
    )


def end(connection: Connection, name: str, live: int | None, at_ms: int, actor: Actor) -> None:
    """End the rollout of a model, if one is on its way, since its live version became another by hand.

    It was compared with a version that is no longer live. It is done where its candidate is what became live.
    """
    running = "SELECT id, number FROM rollouts WHERE name = :name AND state = 'running'"
    for rollout, number in connection.rows(running, {"name": name}):
        state = "done" if live == number else "aborted"
        reason = f"the live version became {live or 'none'} by hand"
        turn = Turn(rollout, f"{name}@{number}", state, 100.0 if state == "done" else 0.0, reason)
        _close(connection, turn, at_ms, actor)


def naming(connection: Connection, name: str, number: int) -> str:
    """The candidate of the rollout on its way that needs a version, as NAME@NUMBER; empty where none does."""
    row = connection.row(f"SELECT number FROM rollouts WHERE {NAMING}", {"name": name, "number": number})
    return f"{name}@{row[0]}" if row else ""


def forsake(connection: Connection, name: str, number: int, at_ms: int, actor: Actor) -> str:
    """End the rollout that needs a version, since that was deleted; its candidate, empty where none needed it."""
    reference = ""
    rows = connection.rows(f"SELECT id, number FROM rollouts WHERE {NAMING}", {"name": name, "number": number})
    for rollout, candidate in rows:
        reference = f"{name}@{candidate}"
        turn = Turn(rollout, reference, "aborted", 0.0, f"version {number} was deleted")
        _close(connection, turn, at_ms, actor)
    return reference


def _close(connection: Connection, turn: Turn, at_ms: int, actor: Actor) -> None:
    """Write down that a rollout has ended."""
    connection.execute(
        "UPDATE rollouts SET state = :state, reason = :reason, changed_ms = :at_ms WHERE id = :id",
        {"state": turn.state, "reason": turn.reason, "at_ms": at_ms, "id": turn.rollout},
    )
    write_down(connection, turn, at_ms, {}, actor)
