"""Routes from below: which versions a model's route names, what ends it, and what became of the routes before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from modelmill.errors import MissingExtra, UsageError
from modelmill.method import decode
from modelmill.store import audit
from modelmill.store.audit import Actor
from modelmill.store.engine import Connection

SET, CLEAR = "routes.set", "routes.clear"
"""The verbs of routes in the audit log, which is where their history is read from."""


class Change(msgspec.Struct, frozen=True):
    """A route of a model that was set, replaced or taken away."""

    at_ms: int
    before: dict[str, Any] | None
    """The table of the router that stood until then; None where the live version answered."""
    after: dict[str, Any] | None
    before_ms: int = 0
    """When the one before was set; 0 where that is not known."""
    reason: str = ""


def naming(connection: Connection, name: str, labels: Collection[str]) -> str:
    """How the route of a model names a version, in words; empty where it does not.

    labels: the version's number and aliases.
    """
    row = connection.row("SELECT router FROM routes WHERE name = :name", {"name": name})
    if row is None:
        return ""
    table = msgspec.json.decode(row[0])
    kept = keeps(table)
    settings = [f"{key} {value}" for key, value in table.items() if value in kept and value in labels]
    return f"{table['method']}: {', '.join(settings)}" if settings else ""


def keeps(table: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of the versions that a route needs; every text in it, where its router is not installed here.

    >>> keeps({"method": "blue_green", "blue": "1", "green": "next"})
    ('1', 'next')
    """
    try:
        found: tuple[str, ...] = decode("router", table).keeps
    except (UsageError, MissingExtra):
        found = tuple(value for key, value in table.items() if key != "method" and isinstance(value, str))
    return found


def end(connection: Connection, name: str, actor: Actor, reason: str = "") -> bool:
    """Let the live version answer; whether there was a route."""
    ended = bool(connection.execute("DELETE FROM routes WHERE name = :name", {"name": name}))
    if ended:
        audit.write(connection, actor, CLEAR, name, {"reason": reason} if reason else {})
    return ended


def history(connection: Connection, name: str) -> list[Change]:
    """Every change of a model's route, oldest first; not who made it."""
    found: list[Change] = []
    before: dict[str, Any] | None = None
    before_ms = 0
    for deed in audit.about(connection, name, (SET, CLEAR)):
        table = dict(deed.detail)
        reason = str(table.pop("reason", "")) if deed.verb == CLEAR else ""
        at_ms = int(table.pop("at_ms", 0))
        after = table if deed.verb == SET else None
        found.append(Change(deed.at_ms, before, after, before_ms, reason))
        before, before_ms = after, at_ms
    return found
