"""What changed, for people and clients: what was published, promoted, rolled back; steps of rollouts, and routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from modelmill.errors import UnknownModel
from modelmill.event import Event
from modelmill.serve.traffic.book import Book, Route, key_of
from modelmill.serve.traffic.counts import Counts, total
from modelmill.serve.traffic.rollout import Rollout, advance
from modelmill.serve.traffic.verdict import evidence
from modelmill.store.database import Database
from modelmill.store.routes import Change
from modelmill.version import LIVE, Version


class Tells(Protocol):
    """What is asked of the registry."""

    @property
    def database(self) -> Database:
        """Where the versions stand."""

    def events(self, name: str) -> Sequence[Event]:
        """Everything that happened to a model."""

    def versions(self, name: str) -> Sequence[Version]:
        """All versions of a model."""


def changes(shelf: Tells, name: str) -> dict[str, Any]:
    """Everything that changed about a model, newest first. Raises UnknownModel."""
    events = [_event(at) for at in shelf.events(name)]
    try:
        versions = {at.number: at for at in shelf.versions(name)}
    except UnknownModel:
        versions = {}
    book = Book(shelf.database)
    steps = [_step(at, step) for at in book.rollouts(name) for step in book.steps(at)]
    for change in events:
        version = versions.get(change["version"])
        if version is not None and version.notes:
            change["notes"] = version.notes
    routed = [_routed(book, name, at) for at in book.history(name)]
    found = sorted([*events, *steps, *routed], key=lambda change: int(change["at_ms"]), reverse=True)
    live = next((at.number for at in versions.values() if LIVE in at.aliases), None)
    return {"model": name, "live": live, "changes": found}


def _event(event: Event) -> dict[str, Any]:
    shown = {"at_ms": event.at_ms, "what": event.verb, "version": event.number}
    return {**shown, **({"alias": event.alias} if event.alias else {}), **({"note": event.note} if event.note else {})}


def _step(rollout: Rollout, step: Any) -> dict[str, Any]:
    return {
        "at_ms": step.at_ms,
        "what": "rollout",
        "version": rollout.number,
        "rollout": rollout.id,
        "state": step.state,
        "percent": step.share,
        "note": step.reason,
        "evidence": step.evidence,
    }


def _routed(book: Book, name: str, change: Change) -> dict[str, Any]:
    """A change of a route, with what the one before compared."""
    compared = _compared(book, Route.key_at(name, change.before_ms))
    return {
        "at_ms": change.at_ms,
        "what": "route",
        "before": change.before,
        "after": change.after,
        **({"note": change.reason} if change.reason else {}),
        **({"compared": compared} if compared else {}),
    }


def summary(rollout: Rollout, counts: Mapping[int, Counts]) -> dict[str, Any]:
    """A rollout in full: where it stands, what it waits for, and what is known so far."""
    overall = total(counts.values())
    look = advance(rollout, overall, counts.get(rollout.step, Counts()))
    return {
        "id": rollout.id,
        "model": rollout.name,
        "version": rollout.number,
        "base": rollout.base,
        "state": rollout.state,
        "stage": rollout.stage,
        "percent": rollout.share,
        "reason": rollout.reason,
        "waits": look.waits if rollout.state == "running" else "",
        "created_ms": rollout.created_ms,
        "changed_ms": rollout.changed_ms,
        "plan": msgspec.to_builtins(rollout.plan),
        "evidence": evidence(overall, look.findings),
    }


def rollouts(database: Database, name: str) -> list[dict[str, Any]]:
    """All rollouts of a model in full, newest first."""
    book = Book(database)
    return [summary(at, book.counts(key_of(at))) for at in reversed(book.rollouts(name))]


def route(database: Database, name: str) -> dict[str, Any] | None:
    """The route of a model as it stands, with what it compared; None where the live version answers."""
    book = Book(database)
    return next((_route(book, at) for at in book.routes() if at.name == name), None)


def deployments(database: Database, live: Mapping[str, int]) -> list[dict[str, Any]]:
    """For every served model: who answers for NAME alone.

    live: name to the number of the version that NAME stands for.
    """
    book = Book(database)
    running = {at.name: at for at in book.running()}
    routes = {at.name: at for at in book.routes()}
    return [
        {
            "model": name,
            "version": number,
            "route": _route(book, routes[name]) if name in routes else None,
            "rollout": summary(running[name], book.counts(key_of(running[name]))) if name in running else None,
        }
        for name, number in sorted(live.items())
    ]


def _route(book: Book, route: Route) -> dict[str, Any]:
    """A route, and what was counted of the version that it mirrors requests to."""
    compared = _compared(book, route.key)
    return {**route.router.as_table(), "at_ms": route.at_ms, **({"compared": compared} if compared else {})}


def _compared(book: Book, key: str) -> dict[str, int]:
    """What a route counted of the version that it mirrors requests to; nothing where it mirrored none."""
    counted = total(book.counts(key).values())
    if not counted.pairs and not counted.dropped:
        return {}
    return {name: getattr(counted, name) for name in ("pairs", "dropped", "rows", "rows_differ")}
