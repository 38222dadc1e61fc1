"""Begins rollouts and sets routes, for whoever asks: the command line, Python, or an operator over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, get_type_hints

import msgspec

from modelmill.bounds import place, wanted
from modelmill.contracts import Router
from modelmill.errors import OutOfBounds, RegistryError, UnknownName, UsageError
from modelmill.method import decode, names
from modelmill.runtime.axes import fits
from modelmill.serve.traffic.book import Book, Route
from modelmill.serve.traffic.rollout import Plan, Rollout
from modelmill.serve.traffic.verdict import Tolerances
from modelmill.signature import Field
from modelmill.store.audit import Actor
from modelmill.store.database import Database
from modelmill.version import Version


class Finds(Protocol):
    """What is asked of the registry."""

    @property
    def database(self) -> Database:
        """Where the versions stand."""

    @property
    def actor(self) -> Actor:
        """Who makes changes, in the audit log."""

    def find(self, reference: str) -> Version:
        """The version of a reference."""


def start(shelf: Finds, reference: str, plan: Plan) -> Rollout:
    """A rollout of NAME@3 in the place of the live version, which a running service will drive.

    Raises RegistryError where it cannot answer what the live version answers, or another rollout is on its way.
    """
    candidate = shelf.find(reference)
    live = shelf.find(candidate.name)
    if candidate.number == live.number:
        hint = f"Name another version, such as {candidate.name}@NUMBER."
        raise RegistryError(reference, f"{candidate.reference} is live already", hint)
    check_substitute(live, candidate)
    return Book(shelf.database, shelf.actor).begin(candidate.name, candidate.number, live.number, plan)


def route(shelf: Finds, name: str, table: Mapping[str, Any]) -> Route:
    """A router set for a model, from the table that describes it.

    Raises UsageError, UnknownModel; RegistryError where a version that it names cannot stand in for the live one.
    """
    live = shelf.find(name)
    if live.name != name:
        raise UsageError(name[:80], "a route is for a model, not for one of its versions", f"Use {live.name}.")
    router = decode("router", table, "route")
    if not isinstance(router, Router):
        raise UsageError("route", f"{str(table['method'])[:80]} is no router", f"Known: {', '.join(names('router'))}.")
    for label in router.keeps:
        check_substitute(live, shelf.find(f"{name}@{label}"))
    return Book(shelf.database, shelf.actor).set_route(name, router)


def check_substitute(live: Version, candidate: Version) -> None:
    """Refuse a candidate that cannot answer what the live version answers. Raises RegistryError."""
    lacks = misfit(live, candidate)
    if lacks:
        hint = f"Clients of {live.name} could not be answered; promote it, or publish it under another name."
        raise RegistryError(candidate.reference, f"it is no substitute for {live.reference}: {lacks}", hint)


def misfit(live: Version, candidate: Version) -> str:
    """What of the live version's interface the candidate lacks, in words; empty where it can take its place."""
    theirs = {field.name: field for field in candidate.signature.inputs}
    for field in live.signature.inputs:
        if field.name not in theirs:
            return f"it takes no input {field.name}"
        if not _takes(theirs.pop(field.name), field):
            return f"its input {field.name} is another"
    if theirs:
        return f"it needs the input {next(iter(theirs))}"
    gives = {field.name: field for field in candidate.signature.outputs}
    for field in live.signature.outputs:
        given = gives.get(field.name)
        if given is None or given.datatype != field.datatype:
            return f"it has no output {field.name} of {field.datatype}"
        if given.axis != field.axis or not fits(given.shape, field.shape):
            return f"its output {field.name} has the shape {list(given.shape)}, not {list(field.shape)}"
    return ""


def _takes(candidate: Field, live: Field) -> bool:
    same = candidate.datatype == live.datatype and tuple(candidate.shape) == tuple(live.shape)
    return same and candidate.kind == live.kind and (candidate.nullable or not live.nullable)


TOLERATED = Tolerances.__struct_fields__


def plan_of(settings: Mapping[str, Any]) -> Plan:
    """The plan of flat settings: those of Plan and of Tolerances by name. Raises UsageError.

    >>> plan_of({"steps": [10, 100], "slower": 0.2}).tolerances.slower
    0.2
    """
    known = [name for name in (*Plan.__struct_fields__, *TOLERATED) if name != "tolerances"]
    for name in settings:
        if name not in known:
            raise UnknownName.among("rollout", "setting", name, known)
    tolerated = {name: settings[name] for name in TOLERATED if name in settings}
    rest = {name: value for name, value in settings.items() if name not in TOLERATED}
    try:
        return msgspec.convert({**rest, "tolerances": tolerated}, Plan)
    except msgspec.ValidationError as error:
        raise _refused({**rest, **tolerated}, error) from None


def _refused(settings: Mapping[str, Any], error: msgspec.ValidationError) -> OutOfBounds:
    """The error for a setting of a rollout that cannot be: which, what came, and what was wanted."""
    keys = [key for key in place(error) if key != "tolerances"]
    name = str(keys[0])
    came, where = settings[name], f"rollout.{name}"
    for item in keys[1:]:
        came, where = came[item], f"{where}, item {int(item) + 1}"
    kinds = {**get_type_hints(Tolerances), **get_type_hints(Plan, include_extras=True)}
    return OutOfBounds(f"{where} = {repr(came)[:80]}", wanted(kinds[name], error), "Leave it out for its default.")


def table_of(body: Any) -> Mapping[str, Any]:
    """The table of a route as it came over the wire. Raises UsageError."""
    if not isinstance(body, dict):
        came = f"route = {repr(body)[:80]}"
        raise UsageError(came, "expected an object with the key method", 'Such as {"method": "canary", ...}.')
    if not isinstance(body.get("method"), str):
        came = f"route.method = {repr(body.get('method'))[:80]}"
        raise UsageError(came, "expected the name of a router", f"Known: {', '.join(names('router'))}.")
    return body


def known_table_of(body: Any) -> Mapping[str, Any]:
    """As `table_of`, for whoever is not at the machine: a router from elsewhere would be code that is run here."""
    table = table_of(body)
    known = names("router")
    if table["method"] not in known:
        raise UnknownName.among("route", "router", table["method"][:80], known)
    return table
