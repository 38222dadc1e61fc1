"""The registry: publish a version whole or not at all, find it, promote it, roll it back, verify it, delete it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelmill import pipeline
from modelmill.errors import RegistryError, StorageError, Tampered, UnknownModel
from modelmill.event import Event
from modelmill.registry import allowance, records
from modelmill.registry.reference import check_alias, check_name, parse
from modelmill.report import Lineage, Report
from modelmill.signature import Signature
from modelmill.store import audit, rollouts, routes
from modelmill.store.audit import Actor
from modelmill.store.blobs import Blobs
from modelmill.store.database import Database
from modelmill.store.engine import Connection
from modelmill.version import LIVE, Version

REPORT = "report.json"
"""The file of a version that holds its report."""

NO_LINEAGE = Lineage()

Content = bytes | Callable[[int, bool], bytes]
"""A file's bytes, or what makes them once the version's number, and whether it goes live, are known."""


class Registry:
    """Versions of models in a database, and their files in a blob folder; several processes may share both.

    Files are written first, each whole and synced, and the version's rows after them in one transaction: whoever
    finds a version finds it complete. Every change is an event, and moves the stamp.
    """

    def __init__(self, database: Database, blobs: Blobs, actor: Actor | None = None) -> None:
        self._database = database
        self._blobs = blobs
        self._actor = actor or audit.local()

    @property
    def actor(self) -> Actor:
        """Who makes changes, in the audit log."""
        return self._actor

    def by(self, actor: Actor) -> Registry:
        """The same registry, whose changes are another's in the audit log."""
        return Registry(self._database, self._blobs, actor)

    def _record(self, connection: Connection, event: Event) -> None:
        """Write down a change twice, in its transaction: for the model's history, and for the audit log."""
        records.record(connection, event)
        detail = {name: value for name, value in (("alias", event.alias), ("note", event.note)) if value}
        audit.write(connection, self._actor, f"models.{event.verb}", f"{event.name}@{event.number}", detail)

    def _point(self, connection: Connection, name: str, number: int, alias: str, note: str) -> None:
        records.point(connection, name, alias, number)
        self._record(connection, Event(_now_ms(), "promote", name, number, note, alias))
        self._moved(connection, name, alias, number)

    def _moved(self, connection: Connection, name: str, alias: str, number: int | None) -> None:
        """End the rollout of a model whose live version this moved; one that ended with this move is over already."""
        if alias == LIVE:
            rollouts.end(connection, name, number, _now_ms(), self._actor)

    @property
    def database(self) -> Database:
        """Where the versions stand, and what else must last."""
        return self._database

    @property
    def blobs(self) -> Blobs:
        """Where the bytes of all files lie."""
        return self._blobs

    def publish(
        self,
        name: str,
        files: Mapping[str, Content],
        signature: Signature,
        report_json: Report | bytes | None = None,
        lineage: Lineage = NO_LINEAGE,
        promote: bool | None = None,
        notes: str = "",
    ) -> Version:
        """The new version, durable and complete; nothing at all where this raises.

        The number is the next one; numbers of deleted versions are not given again. The report is kept as
        `report.json`, with the name, the number and whether it went live put in.

        promote: None makes the first version live, and leaves a live one live. Raises RegistryError where the tenant
        that has the model for its own may store no more.
        """
        from modelmill.store.packing.packed import stored  # brings numpy, which a command that only looks does not need

        contents = dict(files) if report_json is None else {**files, REPORT: _finished(name, report_json)}
        check_name(name)
        for file in contents:
            check_name(file, "file")
        given = {file: content for file, content in contents.items() if isinstance(content, bytes)}
        forms = {file: stored(data) for file, data in given.items()}
        for file, data in given.items():
            self._blobs.put(data, forms[file])
        with self._database.writing(durable=True) as connection:
            number = records.next_number(connection, name)
            live = promote if promote is not None else LIVE not in records.aliases_of(connection, name)
            kept = self._store(contents, forms, number, live)
            allowance.check(connection, name, sum(size for _, size in kept.values()))
            fresh = Version(
                name=name,
                number=number,
                created_ms=_now_ms(),
                signature=signature,
                lineage=lineage,
                files={file: digest for file, (digest, _) in kept.items()},
                sizes={file: size for file, (_, size) in kept.items()},
                notes=notes,
            )
            records.insert(connection, fresh)
            self._record(connection, Event(fresh.created_ms, "publish", name, number, notes))
            if live:
                self._point(connection, fresh.name, number, LIVE, "published as live")
            return records.version(connection, name, number)

    def _store(
        self, contents: Mapping[str, Content], forms: Mapping[str, bytes], number: int, live: bool
    ) -> dict[str, tuple[str, int]]:
        """File: digest and size, once all of them are in the blob folder.

        Called by the only writer. What was put before it became that is put again, at the price of a comparison: a
        delete may have taken bytes that the version shares with the deleted one.
        """
        made = {
            file: content if isinstance(content, bytes) else content(number, live) for file, content in contents.items()
        }
        return {file: (self._blobs.put(data, forms.get(file)), len(data)) for file, data in sorted(made.items())}

    def find(self, reference: str) -> Version:
        """The version that NAME (the live one), NAME@3 or NAME@alias stands for.

        Raises UnknownModel, with the closest names.
        """
        wanted = parse(reference)
        with self._database.reading() as connection:
            return records.version(connection, wanted.name, records.number_of(connection, wanted))

    def names(self) -> list[str]:
        """The names of all models, sorted."""
        with self._database.reading() as connection:
            return records.names(connection)

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, oldest first. Raises UnknownModel, with the closest names."""
        with self._database.reading() as connection:
            return [records.version(connection, name, number) for number in records.numbers(connection, name)]

    def events(self, name: str) -> list[Event]:
        """Everything that happened to a model, oldest first, also to versions that are deleted."""
        with self._database.reading() as connection:
            found = records.events(connection, name)
            if not found:
                records.numbers(connection, name)  # raises: what was never changed was never published
            return found

    def stamp(self) -> int:
        """A number that grows with every change of the registry: what to ask, often, whether anything changed."""
        with self._database.reading() as connection:
            row = connection.row("SELECT changes FROM stamp")
        return int(row[0]) if row else 0

    def standing(self, since: int = 0) -> tuple[int, dict[str, dict[str, int]]]:
        """The last event, and name: alias: number of every model, or of those that changed after the event `since`.

        A model that is gone has no aliases.
        """
        with self._database.reading() as connection:
            return records.last_event(connection), records.standing(connection, since)

    def promote(self, name: str, number: int, alias: str = LIVE, note: str = "") -> Version:
        """The version at which the alias stands from now on; when this returns, that survives a power cut.

        Raises RegistryError for a note where the alias stands there already: it would be of no change.
        """
        check_alias(alias)
        with self._database.writing(durable=True) as connection:
            if note and records.aliases_of(connection, name).get(alias) == number:
                hint = "Leave the notes out, or promote another version."
                raise RegistryError(f"{name}@{number}", f"is {alias} already, and notes are kept of changes only", hint)
            self.move(connection, name, number, alias, note)
            return records.version(connection, name, number)

    def move(self, connection: Connection, name: str, number: int, alias: str = LIVE, note: str = "") -> None:
        """Promote within a transaction of the caller's, so that both happen or neither."""
        number = records.number_of(connection, parse(f"{name}@{number}"))
        if records.aliases_of(connection, name).get(alias) != number:
            self._point(connection, name, number, alias, note)

    def rollback(self, name: str, alias: str = LIVE, note: str = "") -> Version:
        """The version at which the alias stood before, and stands again from now on."""
        with self._database.writing(durable=True) as connection:
            known = records.numbers(connection, name)
            current = records.aliases_of(connection, name).get(alias)
            number = records.before(records.events(connection, name), alias, known, current)
            if number is None:
                stands = f"{alias!r} stands at {name}@{current}" if current else f"no version is {alias!r}"
                hint = f"There are {', '.join(map(str, known))}. Try: modelmill models promote {name}@NUMBER"
                raise RegistryError(name, f"{stands}, and it stood nowhere else before that is still there", hint)
            records.point(connection, name, alias, number)
            self._record(connection, Event(_now_ms(), "rollback", name, number, note, alias))
            self._moved(connection, name, alias, number)
            return records.version(connection, name, number)

    def delete(self, reference: str, force: bool = False, note: str = "") -> list[str]:
        """Forget a version, and the bytes that nothing else needs; the route and the rollout that ended with it.

        Raises RegistryError where an alias stands at it, a route or a rollout on its way needs it, or a pipeline has it
        as a step, unless forced: then the alias, the route and the rollout end with it, and the pipeline answers no
        more.
        """
        wanted = parse(reference)
        with self._database.writing(durable=True) as connection:
            version = records.version(connection, wanted.name, records.number_of(connection, wanted))
            if not force:
                self._check_unneeded(connection, version)
            key = {"name": version.name, "number": version.number}
            for table in ("aliases", "files", "versions"):
                connection.execute(f"DELETE FROM {table} WHERE name = :name AND number = :number", key)
            self._record(connection, Event(_now_ms(), "delete", version.name, version.number, note))
            for alias in version.aliases:
                self._moved(connection, version.name, alias, None)
            ended = self._end_traffic(connection, version)
        self._forget(dict(zip(version.files.values(), version.sizes.values(), strict=True)))
        return ended

    def _check_unneeded(self, connection: Connection, version: Version) -> None:
        """Refuse to let a version go that something stands on. Raises RegistryError."""
        name = version.name
        rollout = rollouts.naming(connection, name, version.number)
        if rollout:
            hint = f"Wait for it, or: modelmill models rollouts {name} abort. --force ends it."
            raise RegistryError(version.reference, f"the rollout of {rollout} is on its way, and needs it", hint)
        named = routes.naming(connection, name, (str(version.number), *version.aliases))
        if named:
            hint = f"Take the route away first: modelmill models route {name} --clear. --force ends it."
            raise RegistryError(version.reference, f"the route of {name} names it ({named})", hint)
        if version.aliases:
            hint = f"Promote or roll back to another version of {name} first, or use --force."
            raise RegistryError(version.reference, f"it is {' and '.join(version.aliases)}", hint)
        users = self._pipelines(connection, version.reference)
        if users:
            hint = "Delete what needs it first, or use --force."
            raise RegistryError(version.reference, f"it is a step of {' and of '.join(users)}", hint)

    def _end_traffic(self, connection: Connection, version: Version) -> list[str]:
        """End the rollout and the route that need a version that is gone; which these were, in words."""
        name, ended = version.name, []
        rollout = rollouts.forsake(connection, name, version.number, _now_ms(), self._actor)
        if rollout:
            ended.append(f"the rollout of {rollout}")
        if routes.naming(connection, name, (str(version.number), *version.aliases)):
            routes.end(connection, name, self._actor, f"version {version.number} was deleted")
            ended.append(f"the route of {name}")
        return ended

    def _pipelines(self, connection: Connection, reference: str) -> list[str]:
        """The pipelines of which a version is a step."""
        rows = connection.rows(
            "SELECT name, number, digest, size FROM files WHERE file = :file ORDER BY name, number",
            {"file": pipeline.FILE},
        )
        return [
            f"{name}@{number}"
            for name, number, digest, size in rows
            if any(step.model == reference for step in pipeline.read(self._blobs.get(digest, size)).steps)
        ]

    def sweep(self, older_than_s: float = 86_400.0) -> int:
        """How many bytes were freed: files that no version and no unfinished search needs, and torn ones.

        Younger ones are left, since a search writes a candidate's file before it records the trial.
        """
        return self._forget(self._blobs.older(time.time() - older_than_s))

    def _forget(self, sizes: Mapping[str, int]) -> int:
        """Drop the bytes that nothing needs. The lock is held so that no publisher counts on them meanwhile."""
        with self._database.writing() as connection:
            unneeded = sizes.keys() - records.needed(connection)
            for digest in unneeded:
                self._blobs.delete(digest)
        return sum(sizes[digest] for digest in unneeded)

    def file(self, version: Version | str, name: str) -> bytes:
        """The bytes of one of a version's files, verified. Raises Tampered where they are not as published."""
        version = self._version(version)
        try:
            return self._blobs.get(_digest(version, name), version.sizes[name])
        except (StorageError, Tampered) as error:
            raise self._explained(version, name, error) from error

    def path(self, version: Version | str, name: str) -> Path:
        """Where one of a version's files lies, expanded; verified now, to be read and never written."""
        version = self._version(version)
        try:
            return self._blobs.opened(_digest(version, name), version.sizes[name])
        except (StorageError, Tampered) as error:
            raise self._explained(version, name, error) from error

    def stored(self, version: Version | str) -> dict[str, int]:
        """File: how many bytes are stored for it, fewer than it has where it is packed."""
        version = self._version(version)
        return {name: self._blobs.stored(digest) for name, digest in version.files.items()}

    def report(self, version: Version | str) -> Report:
        """The report of a version, with `live` as it is now."""
        version = self._version(version)
        report = msgspec.json.decode(self.file(version, REPORT), type=Report)
        return msgspec.structs.replace(report, live=LIVE in self.find(version.reference).aliases)

    def verify(self, reference: str) -> list[str]:
        """What is wrong with a version's stored files, a sentence each; nothing where all is as published."""
        version = self.find(reference)
        return [problem for name in version.files for problem in self._problems(version, name)]

    def _problems(self, version: Version, name: str) -> list[str]:
        try:
            data = self._blobs.get(version.files[name], version.sizes[name])
        except (Tampered, StorageError) as error:
            return [f"{name}: {error.message}"]
        if len(data) != version.sizes[name]:
            return [f"{name}: {len(data)} bytes are stored, and {version.sizes[name]} were published"]
        return []

    def _version(self, version: Version | str) -> Version:
        return self.find(version) if isinstance(version, str) else version

    def _explained(self, version: Version, name: str, error: StorageError | Tampered) -> RegistryError:
        """Why a file cannot be read, by its name; the version may have been deleted since it was found."""
        try:
            self.find(version.reference)
        except UnknownModel as gone:
            return gone
        return type(error)(f"{version.reference} {name}", error.message, error.hint)


def _digest(version: Version, name: str) -> str:
    if name not in version.files:
        hint = f"It has {', '.join(version.files) or 'none'}."
        raise UnknownModel(version.reference, f"no file named {name[:120]!r} belongs to it", hint)
    return version.files[name]


def _finished(name: str, report: Report | bytes) -> Callable[[int, bool], bytes]:
    """The report's bytes, once the number is known."""
    plain: dict[str, Any] = msgspec.json.decode(report if isinstance(report, bytes) else msgspec.json.encode(report))
    return lambda number, live: msgspec.json.encode({**plain, "name": name, "version": number, "live": live})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
