"""What is served: for every model its version, loaded and warm, and further versions when they are asked for."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from modelmill.errors import MillError, ModelError, NotServed, UnknownModel, UsageError
from modelmill.event import Event
from modelmill.report import Report
from modelmill.runtime import rows
from modelmill.runtime.session import Session
from modelmill.serve.engine.engine import Lane, Pace, measure
from modelmill.serve.request import Expected
from modelmill.serve.web import views
from modelmill.signature import Field, Signature
from modelmill.store.database import Database
from modelmill.store.engine import Connection
from modelmill.version import Version

Array = np.ndarray[Any, Any]

KEPT = 8
"""How many versions beside the served ones stay loaded."""


class Shelf(Protocol):
    """What the service reads of the registry."""

    @property
    def database(self) -> Database:
        """Where the versions stand, and what else must last."""

    def find(self, reference: str) -> Version:
        """The version that NAME, NAME@3 or NAME@alias stands for; raises UnknownModel."""

    def names(self) -> Sequence[str]:
        """All models."""

    def versions(self, name: str) -> Sequence[Version]:
        """All versions of a model."""

    def file(self, version: Version, name: str) -> bytes:
        """The verified bytes of one file of a version."""

    def path(self, version: Version, name: str) -> Path:
        """Where that file lies."""

    def report(self, version: Version) -> Report:
        """What its build found out."""

    def stamp(self) -> Any:
        """A value that differs after any change of the registry."""

    def events(self, name: str) -> Sequence[Event]:
        """Everything that happened to a model, oldest first."""

    def move(self, connection: Connection, name: str, number: int, alias: str = ..., note: str = ...) -> None:
        """Point an alias at a version, within a transaction of the caller's."""


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One version that answers: its signature, and its lane in the engine."""

    version: Version
    lane: Lane

    @property
    def name(self) -> str:
        """The model's name."""
        return self.version.name

    @property
    def number(self) -> int:
        """The version's number."""
        return self.version.number

    @cached_property
    def label(self) -> str:
        """The number as text, as figures and answers have it."""
        return str(self.version.number)

    @property
    def signature(self) -> Signature:
        """What goes in and out."""
        return self.version.signature

    @cached_property
    def expected(self) -> Expected:
        """What its requests are checked against."""
        return Expected(self.signature)

    @property
    def is_open(self) -> bool:
        """Whether sizes beside the rows are left to the client, so that a failure may be the request's."""
        return any(-1 in field.row for field in self.signature.inputs)


Record = Callable[[str, str, int], None]
"""Told the model, the version and the rows of every run."""


class Catalogue:
    """The endpoints by name; it follows the registry, and holds what is loaded."""

    def __init__(self, shelf: Shelf, references: Sequence[str], record: Record) -> None:
        self.shelf = shelf
        self.references = tuple(references)
        self.record = record
        self.served: dict[str, Endpoint] = {}
        self.problems: dict[str, str] = {}
        self.others: OrderedDict[tuple[str, int], Endpoint] = OrderedDict()
        self.aliases: dict[str, int] = {}
        self.withheld: dict[str, int] = {}
        """What was unloaded by name: models that are not served until they are loaded, and the number they had."""
        self.stamp: Any = None
        self.lock = threading.Lock()

    @property
    def loaded(self) -> int:
        """How many versions are in memory."""
        return len(self.served) + len(self.others)

    def endpoints(self) -> list[Endpoint]:
        """What NAME alone reaches, by name."""
        return [endpoint for _, endpoint in sorted(self.served.items())]

    def load(self, name: str) -> None:
        """Serve a model's version as it is now, also if it was unloaded. Raises NotServed."""
        with self.lock:
            reference = next((given for given in self._references() if given.partition("@")[0] == name), None)
            if reference is None:
                raise self._unknown(name)
            version = self.shelf.find(reference)
            self.withheld.pop(name, None)
            if not self._is_served(version):
                self._serve(version)

    def unload(self, name: str, dependents: bool = False) -> None:
        """Serve a model no longer, until it is loaded; `dependents` are the models it is made of. Raises NotServed."""
        with self.lock:
            endpoint = self.served.get(name)
            if endpoint is None and name not in self.withheld:
                raise self._unknown(name)
            if endpoint is not None:
                self.withheld[name] = endpoint.number
                self.served = {other: at for other, at in self.served.items() if other != name}
                self.others = OrderedDict((key, at) for key, at in self.others.items() if key[0] != name)

    def start(self) -> None:
        """Load what is to be served. Raises UnknownModel for a name that the registry does not have."""
        with self.lock:
            self.stamp = self.shelf.stamp()
            for reference in self._references():
                self._serve(self.shelf.find(reference))

    def refresh(self) -> bool:
        """Follow the registry if it changed; a version that cannot be loaded leaves the one before in place."""
        with self.lock:
            stamp = self.shelf.stamp()
            if stamp == self.stamp:
                return False
            wanted: dict[str, Version] = {}
            for reference in self._references():
                try:
                    version = self.shelf.find(reference)
                except UnknownModel:
                    continue
                if version.name not in self.withheld:
                    wanted[version.name] = version
            self.served = {name: endpoint for name, endpoint in self.served.items() if name in wanted}
            self.others = OrderedDict()
            self.aliases = {}
            self.problems = {}
            for version in wanted.values():
                self._replace(version)
            self.stamp = stamp
            return True

    def _references(self) -> Sequence[str]:
        """What is to be served: the names that were given, or every model with a live version."""
        return self.references or [name for name in self.shelf.names() if self._is_live(name)]

    def _is_live(self, name: str) -> bool:
        try:
            self.shelf.find(name)
        except UnknownModel:
            return False
        return True

    def _replace(self, version: Version) -> None:
        """Serve `version` where it is not served yet; what cannot be loaded is a problem to be shown."""
        if self._is_served(version):
            return
        try:
            self._serve(version)
        except MillError as error:
            self.problems[version.name] = f"{version.reference} cannot be loaded: {error}"

    def _is_served(self, version: Version) -> bool:
        present = self.served.get(version.name)
        return present is not None and present.version.files == version.files and present.number == version.number

    def _serve(self, version: Version) -> None:
        self.served[version.name] = self._load(version)

    def _load(self, version: Version) -> Endpoint:
        return load(version, self.shelf.file(version, "model.onnx"), self.record)

    def present(self, reference: str) -> Endpoint | None:
        """The endpoint of NAME or of a version that is loaded; None where the registry has to be asked."""
        endpoint = self.served.get(reference)
        if endpoint is not None or "@" not in reference:
            return endpoint
        name, _, label = reference.partition("@")
        number = int(label) if is_number(label) else self.aliases.get(reference)
        if number is None or name not in self.served:
            return None
        if self.served[name].number == number:
            return self.served[name]
        return self.others.get((name, number))

    def find(self, reference: str) -> Endpoint:
        """The endpoint of NAME, NAME@3 or NAME@alias, loaded if need be. Raises NotServed."""
        name = reference.partition("@")[0]
        if name not in self.served:
            raise self._unknown(reference)
        with self.lock:
            return self.present(reference) or self._find_other(name, reference)

    def _unknown(self, reference: str) -> NotServed:
        if reference.partition("@")[0] in self.withheld:
            hint = "Load it: POST /v2/repository/models/NAME/load."
            return NotServed("model", f"{reference[:80]!r} is unloaded", hint)
        close = get_close_matches(reference.partition("@")[0][:200], list(self.served), n=1)
        known = ", ".join(list(self.served)[:12]) or "none"
        hint = f"Did you mean {close[0]}?" if close else f"Served: {known}."
        return NotServed("model", f"{reference[:80]!r} is not served", hint)

    def _find_other(self, name: str, reference: str) -> Endpoint:
        try:
            version = self.shelf.find(reference)
        except (UnknownModel, UsageError) as error:
            raise NotServed("model", error.message, error.hint) from None
        if not is_number(reference.partition("@")[2]):
            self.aliases[reference] = version.number
        key = (name, version.number)
        served = self.served[name]
        if served.number == version.number:
            return served
        if key not in self.others:
            self.others[key] = self._load(version)
        while len(self.others) > KEPT:
            self.others.popitem(last=False)
        return self.others[key]

    def numbers(self, name: str) -> list[int]:
        """The numbers of all versions of a served model."""
        return [version.number for version in self.shelf.versions(name)]

    def summaries(self) -> list[dict[str, Any]]:
        """Every served model in a few words, as /api/models lists them."""
        served = [endpoint for _, endpoint in sorted(self.served.items())]
        return [
            {**views.summary(at.version, self.numbers(at.name)), "problem": self.problems.get(at.name, "")}
            for at in served
        ]

    def describe(self, reference: str) -> dict[str, Any]:
        """A model in full, as /api/models/NAME gives it. Raises NotServed."""
        endpoint = self.find(reference)
        return views.detail(endpoint.version, self.shelf.versions(endpoint.name))

    def report(self, reference: str) -> bytes:
        """The HTML report of a version. Raises NotServed where there is none."""
        endpoint = self.find(reference)
        if "report.html" not in endpoint.version.files:
            raise NotServed("report", f"{endpoint.version.reference} has no report", "")
        return self.shelf.file(endpoint.version, "report.html")


def load(version: Version, onnx: bytes, record: Record) -> Endpoint:
    """A version with its session, run on an example and timed. Raises ModelError if it does not run."""
    session = Session(onnx)
    signature = version.signature
    apart = all(field.axis == 0 and field.rows < 0 for field in (*signature.inputs, *signature.outputs))
    batches = apart and not signature.series
    pace = _pace(session, signature, batches)
    number = str(version.number)
    return Endpoint(version, Lane(session, pace, batches, lambda rows: record(version.name, number, rows)))


def _pace(session: Session, signature: Signature, batches: bool) -> Pace:
    """How long a run takes; forever, as far as we know, where no row is known that the model takes."""
    try:
        return measure(session, example(signature), batches)
    except ModelError:
        if signature.example or not any(-1 in field.row for field in signature.inputs):
            raise
        return Pace(math.inf, 0.0)


def example(signature: Signature) -> Mapping[str, Array]:
    """Columns of one row: the signature's example, or zeros."""
    if signature.example:
        columns: Mapping[str, Array] = rows.to_columns([list(signature.example)], signature)
        return columns
    return {field.name: _zeros(field) for field in signature.inputs}


def _zeros(field: Field) -> Array:
    shape = tuple(1 if size < 0 else size for size in field.shape)
    return np.full(shape, "", object) if field.datatype == "BYTES" else np.zeros(shape, field.dtype)


def is_number(label: str) -> bool:
    """Whether what follows the @ is a version's number rather than an alias."""
    return label.isascii() and label.isdigit() and len(label) < 10
