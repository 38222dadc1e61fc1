"""The rows of routes, rollouts, their steps, their counts and the lease: what outlives every server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import msgspec

from modelmill.contracts import Router
from modelmill.errors import MissingExtra, RegistryError, UsageError
from modelmill.method import decode
from modelmill.serve.traffic.counts import Counts, total
from modelmill.serve.traffic.lease import Lease
from modelmill.serve.traffic.rollout import Plan, Rollout, check
from modelmill.store import audit
from modelmill.store import routes as standing
from modelmill.store.audit import SERVICE, Actor
from modelmill.store.database import Database
from modelmill.store.engine import Connection
from modelmill.store.rollouts import Turn, write_down
from modelmill.store.routes import Change
from modelmill.version import LIVE

LEASE = "rollouts"
"""The lease of whoever drives the rollouts of a home."""

COLUMNS = "id, name, number, base, plan, state, step, seconds, reason, created_ms, changed_ms"


class Step(msgspec.Struct, frozen=True):
    """A change of a rollout as it was written down, with what was known then."""

    at_ms: int
    number: int
    state: str
    share: float
    reason: str
    evidence: dict[str, Any]


class Route(NamedTuple):
    """A router that somebody set for a model, and when."""

    name: str
    at_ms: int
    router: Router

    @property
    def key(self) -> str:
        """The key of its counts."""
        return self.key_at(self.name, self.at_ms)

    @staticmethod
    def key_at(name: str, at_ms: int) -> str:
        """The key of the counts of a model's route that was set at some time."""
        return f"route:{name}:{at_ms}"


class Mover(Protocol):
    """What moves an alias within a transaction: the registry."""

    def move(self, connection: Connection, name: str, number: int, alias: str = LIVE, note: str = "") -> None:
        """Point the alias at the version."""


def key_of(rollout: Rollout) -> str:
    """The key of a rollout's counts."""
    return f"rollout:{rollout.id}"


class Book:
    """Routes and rollouts in a database that several servers and commands share."""

    def __init__(self, database: Database, actor: Actor | None = None) -> None:
        self.database = database
        self.actor = actor or audit.local()

    def routes(self) -> list[Route]:
        """All routes."""
        with self.database.reading() as connection:
            return routes(connection)

    def history(self, name: str) -> list[Change]:
        """Every change of a model's route, oldest first."""
        with self.database.reading() as connection:
            return standing.history(connection, name)

    def running(self, name: str = "") -> list[Rollout]:
        """The rollouts that are on their way: all, or that of one model."""
        return [at for at in self.rollouts(name) if at.state == "running"]

    def latest(self) -> list[Rollout]:
        """The newest rollout of every model that had one: what servers follow."""
        with self.database.reading() as connection:
            return rollouts(connection, "WHERE id IN (SELECT MAX(id) FROM rollouts GROUP BY name)", {})

    def rollouts(self, name: str = "") -> list[Rollout]:
        """All rollouts that there ever were, oldest first: all, or those of one model."""
        with self.database.reading() as connection:
            return rollouts(connection, "WHERE name = :name", {"name": name}) if name else rollouts(connection, "", {})

    def steps(self, rollout: Rollout) -> list[Step]:
        """What happened to a rollout, oldest first."""
        with self.database.reading() as connection:
            return steps(connection, rollout)

    def counts(self, key: str) -> dict[int, Counts]:
        """What all servers have counted, by step."""
        with self.database.reading() as connection:
            return counts(connection, key)

    def begin(self, name: str, number: int, base: int, plan: Plan) -> Rollout:
        """A new rollout in the place of `base`.

        Raises RegistryError where one is on its way, a route is set, or `base` is no longer live.
        Raises OutOfBounds for a plan.
        """
        check(plan)
        now = now_ms()
        with self.database.writing(durable=True) as connection:
            for other in rollouts(connection, "WHERE state = 'running' AND name = :name", {"name": name}):
                hint = f"Wait for it, or: modelmill models rollouts {name} abort"
                raise RegistryError(name, f"the rollout of {other.reference} is on its way ({other.stage})", hint)
            if connection.row("SELECT 1 FROM routes WHERE name = :name", {"name": name}):
                hint = f"Take it away first: modelmill models route {name} --clear"
                raise RegistryError(name, "a route is set, which says who answers", hint)
            live = live_number(connection, name)
            if live != base:
                raise RegistryError(name, f"the live version became {live or 'none'} meanwhile", "Look, and try again.")
            check_there(connection, name, [str(number)])
            row = connection.row("SELECT COALESCE(MAX(id), 0) + 1 FROM rollouts")
            assert row is not None, "an aggregate has one row"
            made = Rollout(int(row[0]), name, number, base, plan, created_ms=now, changed_ms=now, reason="begun")
            connection.execute(
                f"INSERT INTO rollouts ({COLUMNS}) VALUES"
                " (:id, :name, :number, :base, :plan, :state, :step, :seconds, :reason, :created_ms, :changed_ms)",
                {**msgspec.structs.asdict(made), "plan": msgspec.json.encode(plan).decode()},
            )
            write_step(connection, made, now, {}, self.actor)
        return made

    def abort(self, name: str, reason: str = "aborted by hand") -> Rollout:
        """The rollout of a model as it has ended. Raises RegistryError where none is on its way."""
        now = now_ms()
        with self.database.writing(durable=True) as connection:
            found = rollouts(connection, "WHERE state = 'running' AND name = :name", {"name": name})
            if not found:
                raise RegistryError(name, "no rollout is on its way", f"See: modelmill models rollouts {name}")
            ended = msgspec.structs.replace(found[0], state="aborted", reason=reason, changed_ms=now)
            write(connection, found[0], ended)
            write_step(connection, ended, now, {}, self.actor)
        return ended

    def set_route(self, name: str, router: Router) -> Route:
        """Let a router say which version answers for NAME alone. Raises RegistryError during a rollout."""
        table = msgspec.json.encode(router.as_table()).decode()
        with self.database.writing(durable=True) as connection:
            for other in rollouts(connection, "WHERE state = 'running' AND name = :name", {"name": name}):
                hint = f"Wait for it, or: modelmill models rollouts {name} abort"
                raise RegistryError(name, f"the rollout of {other.reference} is on its way ({other.stage})", hint)
            check_there(connection, name, router.keeps)
            last = connection.row("SELECT at_ms FROM routes WHERE name = :name", {"name": name})
            at_ms = max(now_ms(), int(last[0]) + 1 if last else 0)
            connection.execute("DELETE FROM routes WHERE name = :name", {"name": name})
            connection.execute(
                "INSERT INTO routes (name, at_ms, router) VALUES (:name, :at_ms, :router)",
                {"name": name, "at_ms": at_ms, "router": table},
            )
            audit.write(connection, self.actor, standing.SET, name, {**router.as_table(), "at_ms": at_ms})
        return Route(name, at_ms, router)

    def clear_route(self, name: str) -> bool:
        """Let the live version answer; whether there was a route."""
        with self.database.writing(durable=True) as connection:
            return standing.end(connection, name, self.actor)


def routes(connection: Connection) -> list[Route]:
    """All routes, but those by a router that is not installed here: they are not this server's to follow."""
    found: list[Route] = []
    for name, at_ms, table in connection.rows("SELECT name, at_ms, router FROM routes ORDER BY name"):
        with suppress(UsageError, MissingExtra):
            found.append(Route(name, at_ms, decode("router", msgspec.json.decode(table))))
    return found


def rollouts(connection: Connection, where: str, parameters: Mapping[str, Any]) -> list[Rollout]:
    """The rollouts that a condition names, oldest first."""
    rows = connection.rows(f"SELECT {COLUMNS} FROM rollouts {where} ORDER BY id", parameters)
    names = [name.strip() for name in COLUMNS.split(",")]
    return [
        msgspec.convert({**dict(zip(names, row, strict=True)), "plan": msgspec.json.decode(row[4])}, Rollout)
        for row in rows
    ]


def steps(connection: Connection, rollout: Rollout) -> list[Step]:
    """What happened to a rollout, oldest first."""
    rows = connection.rows(
        "SELECT at_ms, state, share, reason, evidence FROM rollout_steps WHERE rollout_id = :id ORDER BY place",
        {"id": rollout.id},
    )
    return [Step(at, rollout.number, state, share, why, msgspec.json.decode(b)) for at, state, share, why, b in rows]


def counts(connection: Connection, key: str) -> dict[int, Counts]:
    """What all servers have counted, by step."""
    found: dict[int, list[Counts]] = {}
    for step, body in connection.rows("SELECT step, body FROM counts WHERE key = :key", {"key": key}):
        found.setdefault(step, []).append(msgspec.json.decode(body, type=Counts))
    return {step: total(parts) for step, parts in found.items()}


def flush(connection: Connection, server: str, counted: Sequence[tuple[str, int, Counts]]) -> None:
    """Write what a server has counted since its start, by key and step, over what it wrote before."""
    for key, step, body in counted:
        connection.execute(
            "INSERT INTO counts (key, server, step, body) VALUES (:key, :server, :step, :body)"
            " ON CONFLICT (key, server, step) DO UPDATE SET body = excluded.body",
            {"key": key, "server": server, "step": step, "body": msgspec.json.encode(body).decode()},
        )


def read_lease(connection: Connection) -> Lease:
    """The lease as it stands; without holder where there never was one."""
    row = connection.row("SELECT holder, token, beat FROM leases WHERE name = :name", {"name": LEASE})
    return Lease(*row) if row else Lease("", 0, 0)


def write_lease(connection: Connection, lease: Lease) -> None:
    """Write the lease; the caller has read it in the same transaction."""
    connection.execute(
        "INSERT INTO leases (name, holder, token, beat) VALUES (:name, :holder, :token, :beat)"
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = excluded.token, beat = excluded.beat",
        {"name": LEASE, **lease._asdict()},
    )


def write(connection: Connection, before: Rollout, after: Rollout) -> bool:
    """Write a rollout's next state, if it still is where it was; whether that was so."""
    return bool(
        connection.execute(
            "UPDATE rollouts SET state = :state, step = :step, seconds = :seconds, reason = :reason, changed_ms = :at"
            " WHERE id = :id AND state = 'running' AND step = :was",
            {
                "id": after.id,
                "state": after.state,
                "step": after.step,
                "seconds": after.seconds,
                "reason": after.reason,
                "at": after.changed_ms,
                "was": before.step,
            },
        )
    )


def write_step(
    connection: Connection, rollout: Rollout, at_ms: int, evidence: Mapping[str, Any], actor: Actor = SERVICE
) -> None:
    """Write down what a rollout has come to, and why; for its history, and for the audit log."""
    turn = Turn(rollout.id, rollout.reference, rollout.state, rollout.share, rollout.reason)
    write_down(connection, turn, at_ms, evidence, actor)


def check_there(connection: Connection, name: str, labels: Iterable[str]) -> None:
    """Refuse numbers and aliases that are gone since they were looked up. Raises RegistryError."""
    for label in labels:
        row = "versions WHERE number = :label" if label.isdigit() else "aliases WHERE alias = :label"
        key = {"name": name, "label": int(label) if label.isdigit() else label}
        if connection.row(f"SELECT 1 FROM {row} AND name = :name", key) is None:
            raise RegistryError(f"{name}@{label}", "was deleted meanwhile", "Look, and try again.")


def live_number(connection: Connection, name: str) -> int | None:
    """The number of the live version; None where none is live."""
    key = {"name": name, "alias": LIVE}
    row = connection.row("SELECT number FROM aliases WHERE name = :name AND alias = :alias", key)
    return int(row[0]) if row else None


def now_ms() -> int:
    """The time, for the record; nothing is decided by it."""
    return time.time_ns() // 1_000_000
