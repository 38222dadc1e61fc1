"""What the registry's tables hold, as values: versions with their files and aliases, events, what an alias stood at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from modelmill.errors import UnknownModel, UnknownName
from modelmill.event import Event
from modelmill.registry.reference import Reference, is_name
from modelmill.report import Lineage
from modelmill.signature import Signature
from modelmill.store.engine import Connection
from modelmill.version import LIVE, Version

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def names(connection: Connection) -> list[str]:
    """Every name with at least one version, sorted."""
    return sorted(name for (name,) in connection.rows("SELECT DISTINCT name FROM versions"))


def numbers(connection: Connection, name: str) -> list[int]:
    """The numbers of a name's versions, oldest first. Raises UnknownModel where there is none."""
    query = "SELECT number FROM versions WHERE name = :name ORDER BY number"
    # PostgreSQL refuses to be asked for texts that it cannot hold, such as one with a NUL.
    found = connection.rows(query, {"name": name}) if is_name(name) else []
    if not found:
        raise _unknown("registry", "model", name, names(connection))
    return [number for (number,) in found]


def number_of(connection: Connection, reference: Reference) -> int:
    """The number that a reference stands for. Raises UnknownModel, which says what there is instead."""
    name, number, alias = reference
    known = numbers(connection, name)
    if number is not None:
        if number not in known:
            raise _unknown(name, "version", str(number), map(str, known))
        return number
    aliases = aliases_of(connection, name)
    if alias not in aliases:
        if alias == LIVE:
            hint = f"Try {name}@{known[-1]}, or: modelmill models promote {name}@{known[-1]}"
            raise UnknownModel(name, "no version of it is live", hint)
        raise _unknown(name, "alias", alias, aliases)
    return aliases[alias]


def aliases_of(connection: Connection, name: str) -> dict[str, int]:
    """Alias: number, of one name."""
    rows = connection.rows("SELECT alias, number FROM aliases WHERE name = :name ORDER BY alias", {"name": name})
    return {alias: number for alias, number in rows}  # noqa: C416 - a row is a tuple of any length to mypy


def last_event(connection: Connection) -> int:
    """The number of the last event; 0 where nothing ever happened."""
    row = connection.row("SELECT MAX(id) FROM events")
    return int(row[0]) if row and row[0] is not None else 0


def standing(connection: Connection, since: int) -> dict[str, dict[str, int]]:
    """Name: alias: number of every name that something happened to after an event; of one that is gone, no aliases."""
    changed = "SELECT DISTINCT name FROM events WHERE id > :since"
    found: dict[str, dict[str, int]] = {name: {} for (name,) in connection.rows(changed, {"since": since})}
    rows = connection.rows(f"SELECT name, alias, number FROM aliases WHERE name IN ({changed})", {"since": since})
    for name, alias, number in rows:
        found[name][alias] = number
    return found


def version(connection: Connection, name: str, number: int) -> Version:
    """One version, whole. The caller knows that it is there."""
    key = {"name": name, "number": number}
    row = connection.row(
        "SELECT created_ms, signature, lineage, notes FROM versions WHERE name = :name AND number = :number", key
    )
    assert row is not None, "the number was read in the same transaction"
    files = connection.rows(
        "SELECT file, digest, size FROM files WHERE name = :name AND number = :number ORDER BY file", key
    )
    created_ms, signature, lineage, notes = row
    return Version(
        name=name,
        number=number,
        created_ms=created_ms,
        signature=msgspec.json.decode(signature, type=Signature),
        lineage=msgspec.json.decode(lineage, type=Lineage),
        files={file: digest for file, digest, _ in files},
        sizes={file: size for file, _, size in files},
        aliases=tuple(alias for alias, at in aliases_of(connection, name).items() if at == number),
        notes=notes,
    )


def insert(connection: Connection, version: Version) -> None:
    """Write a version and its files."""
    connection.execute(
        "INSERT INTO versions (name, number, created_ms, signature, lineage, notes)"
        " VALUES (:name, :number, :created_ms, :signature, :lineage, :notes)",
        {
            "name": version.name,
            "number": version.number,
            "created_ms": version.created_ms,
            "signature": msgspec.json.encode(version.signature).decode(),
            "lineage": msgspec.json.encode(version.lineage).decode(),
            "notes": version.notes,
        },
    )
    for file, digest in version.files.items():
        connection.execute(
            "INSERT INTO files (name, number, file, digest, size) VALUES (:name, :number, :file, :digest, :size)",
            {
                "name": version.name,
                "number": version.number,
                "file": file,
                "digest": digest,
                "size": version.sizes[file],
            },
        )


def next_number(connection: Connection, name: str) -> int:
    """The next number of a name; it is taken with this transaction, and never given again."""
    key = {"name": name}
    if not connection.execute("UPDATE names SET last_number = last_number + 1 WHERE name = :name", key):
        connection.execute("INSERT INTO names (name, last_number) VALUES (:name, 1)", key)
    row = connection.row("SELECT last_number FROM names WHERE name = :name", key)
    assert row is not None, "the row was just written"
    return int(row[0])


def point(connection: Connection, name: str, alias: str, number: int) -> None:
    """Let an alias stand at a version."""
    key = {"name": name, "alias": alias, "number": number}
    if not connection.execute("UPDATE aliases SET number = :number WHERE name = :name AND alias = :alias", key):
        connection.execute("INSERT INTO aliases (name, alias, number) VALUES (:name, :alias, :number)", key)


def record(connection: Connection, event: Event) -> None:
    """Write down a change, and move the stamp that services watch."""
    connection.execute(
        "INSERT INTO events (id, at_ms, verb, name, number, alias, note)"
        " SELECT COALESCE(MAX(id), 0) + 1, :at_ms, :verb, :name, :number, :alias, :note FROM events",
        msgspec.structs.asdict(event),
    )
    connection.execute("UPDATE stamp SET changes = changes + 1")


def events(connection: Connection, name: str) -> list[Event]:
    """Everything that happened to a name, oldest first; nothing ever does to what cannot be one."""
    if not is_name(name):
        return []
    rows = connection.rows(
        "SELECT at_ms, verb, name, number, note, alias FROM events WHERE name = :name ORDER BY id", {"name": name}
    )
    return [Event(*row) for row in rows]


def before(happened: Sequence[Event], alias: str, known: Sequence[int], current: int | None) -> int | None:
    """Where an alias stood before it came to stand at `current`, among the versions that are still known.

    A rollback is a step back, not one more step forward: two of them lead two versions back.
    """
    path: list[int] = []
    for event in happened:
        if event.alias == alias and event.verb == "promote":
            path.append(event.number)
        elif event.alias == alias and event.verb == "rollback":
            while path and path[-1] != event.number:
                path.pop()
    left = [number for number in path if number in known and number != current]
    return left[-1] if left else None


def needed(connection: Connection) -> set[str]:
    """The digests that some version, or some trial of an unfinished search, needs."""
    files = connection.rows("SELECT digest FROM files")
    bodies = connection.rows(
        "SELECT body FROM trials JOIN studies ON studies.id = trials.study_id WHERE studies.state <> 'finished'"
    )
    return {digest for (digest,) in files} | {digest for (body,) in bodies for digest in DIGEST.findall(body)}


def _unknown(where: str, what: str, name: str, known: Iterable[str]) -> UnknownModel:
    error = UnknownName.among(where, what, name[:120], known)
    hint = error.hint or "Nothing is published yet. Try: modelmill build digits"
    return UnknownModel(error.where, error.message, hint)
