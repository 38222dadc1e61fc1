"""The audit log: who changed what, when and from where, in rows that are chained by digests.

A row is written in the transaction of the change itself: there is no change without its row, and no row of a change
that was not made. Every digest covers the one before it, so that a row that was altered, taken out or put in is
noticed by `verify`. Whoever may write the database could compute the whole chain anew: to notice that, too, keep a
digest elsewhere from time to time, and hand it to `verify`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from modelmill.store.engine import Connection, Row

COLUMNS = "id, at_ms, who, tenant, origin, verb, subject, detail, digest"


class Actor(msgspec.Struct, frozen=True):
    """Who makes a change: `user:NAME` at this machine, or `key:ID` from an address."""

    who: str
    tenant: str = ""
    origin: str = "local"


class Deed(msgspec.Struct, frozen=True):
    """One row of the log."""

    id: int
    at_ms: int
    who: str
    tenant: str
    origin: str
    verb: str
    subject: str
    detail: dict[str, Any]
    digest: str


SERVICE = Actor("service")
"""A running service that does by itself what it was told to do."""


def local() -> Actor:
    """Whoever runs this process."""
    import getpass  # brings termios, which a command that only looks does not need

    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = "unknown"
    return Actor(f"user:{name}")


def write(
    connection: Connection, actor: Actor, verb: str, subject: str, detail: Mapping[str, Any] | None = None
) -> None:
    """Append a row, in the transaction of the change. `detail` holds no secrets."""
    last = connection.row("SELECT id, digest FROM audit ORDER BY id DESC LIMIT 1") or (0, "")
    row = {
        "id": int(last[0]) + 1,
        "at_ms": time.time_ns() // 1_000_000,
        "who": actor.who,
        "tenant": actor.tenant,
        "origin": actor.origin,
        "verb": verb,
        "subject": subject,
        "detail": msgspec.json.encode(dict(detail or {})).decode(),
    }
    row["digest"] = _digest(str(last[1]), row)
    names = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO audit ({COLUMNS}) VALUES ({names})", row)


def read(connection: Connection, since: int | None = None, most: int = 1000) -> list[Deed]:
    """The first `most` rows after the one of id `since`, or, without `since`, the newest ones; oldest first."""
    order = "id DESC" if since is None else "id"
    query = f"SELECT {COLUMNS} FROM audit WHERE id > :since ORDER BY {order} LIMIT :most"
    rows = connection.rows(query, {"since": since or 0, "most": most})
    deeds = [_deed(row) for row in rows]
    return deeds[::-1] if since is None else deeds


def about(connection: Connection, subject: str, verbs: Sequence[str]) -> list[Deed]:
    """What was done to a subject by one of these verbs, oldest first; no other row of the log is read."""
    named = {f"verb{number}": verb for number, verb in enumerate(verbs)}
    among = ", ".join(f":{name}" for name in named)
    query = f"SELECT {COLUMNS} FROM audit WHERE subject = :subject AND verb IN ({among}) ORDER BY id"
    return [_deed(row) for row in connection.rows(query, {"subject": subject, **named})]


def verify(connection: Connection, known: str = "") -> list[str]:
    """What is wrong with the chain, a sentence each; nothing where no row was altered, taken out or put in.

    known: a digest that was noted earlier, which must still be in the chain.
    """
    problems: list[str] = []
    before, wanted, seen = "", 1, not known
    for row in connection.rows(f"SELECT {COLUMNS} FROM audit ORDER BY id"):
        named = dict(zip(COLUMNS.split(", "), row, strict=True))
        digest = str(named.pop("digest"))
        if named["id"] != wanted:
            problems.append(f"row {wanted} is missing")
        elif digest != _digest(before, named):
            problems.append(f"row {named['id']} is not as it was written")
        seen = seen or digest == known
        before, wanted = digest, int(named["id"]) + 1
    if not seen:
        problems.append(f"no row has the digest {known[:80]}: the log was cut off, or written anew")
    return problems


def head(connection: Connection) -> str:
    """The digest of the newest row: what to keep elsewhere; empty where there is no row."""
    row = connection.row("SELECT digest FROM audit ORDER BY id DESC LIMIT 1")
    return str(row[0]) if row else ""


def _deed(row: Row) -> Deed:
    named = dict(zip(COLUMNS.split(", "), row, strict=True))
    return msgspec.convert({**named, "detail": msgspec.json.decode(named["detail"])}, Deed)


def _digest(before: str, row: Mapping[str, Any]) -> str:
    content = [before, *(row[name] for name in COLUMNS.split(", ")[:-1])]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()
