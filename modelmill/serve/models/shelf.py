"""What the service reads of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from modelmill.event import Event
from modelmill.report import Report
from modelmill.store.audit import Actor
from modelmill.store.blobs import Blobs
from modelmill.store.database import Database
from modelmill.store.engine import Connection
from modelmill.version import Version


class Shelf(Protocol):
    """The registry, as far as the service needs it."""

    @property
    def database(self) -> Database:
        """Where the versions stand, and what else must last."""

    @property
    def blobs(self) -> Blobs:
        """Where the bytes of all files lie."""

    @property
    def actor(self) -> Actor:
        """Who makes changes, in the audit log."""

    def by(self, actor: Actor) -> Shelf:
        """The same registry, whose changes are another's."""

    def find(self, reference: str) -> Version:
        """The version that NAME, NAME@3 or NAME@alias stands for; raises UnknownModel."""

    def names(self) -> Sequence[str]:
        """All models."""

    def standing(self, since: int = 0) -> tuple[int, Mapping[str, Mapping[str, int]]]:
        """The last change, and name: alias: number of every model, or of those that changed after `since`."""

    def versions(self, name: str) -> Sequence[Version]:
        """All versions of a model."""

    def file(self, version: Version, name: str) -> bytes:
        """The verified bytes of one file of a version."""

    def report(self, version: Version) -> Report:
        """What its build found out."""

    def stamp(self) -> Any:
        """A value that differs after any change of the registry."""

    def events(self, name: str) -> Sequence[Event]:
        """Everything that happened to a model, oldest first."""

    def move(self, connection: Connection, name: str, number: int, alias: str = ..., note: str = ...) -> None:
        """Point an alias at a version, within a transaction of the caller's."""
