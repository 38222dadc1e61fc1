"""The paths of traffic: who answers, what changed, and rollouts and routes for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from modelmill.errors import NotServed, RegistryError, RequestError, StorageError, UnknownModel, UsageError
from modelmill.serve.access.door import check_change
from modelmill.serve.access.veil import veiled
from modelmill.serve.inputs import kind
from modelmill.serve.models.catalogue import Catalogue
from modelmill.serve.models.shelf import Shelf
from modelmill.serve.traffic import changes, start
from modelmill.serve.traffic.book import Book
from modelmill.serve.web import wire
from modelmill.serve.web.bodies import UnknownType
from modelmill.serve.web.http import Call, Conflict, Handler, Reply, as_json

T = TypeVar("T")


class Deployments:
    """The handlers; what they change lies in the database, which every server of a home follows."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    @property
    def shelf(self) -> Shelf:
        """The registry."""
        return self.catalogue.shelf

    def shelf_of(self, call: Call) -> Shelf:
        """The registry, whose changes are the caller's."""
        return self.shelf.by(call.caller.actor(call.origin))

    def book(self, call: Call) -> Book:
        """The rows of routes and rollouts, whose changes are the caller's."""
        return Book(self.shelf.database, call.caller.actor(call.origin))

    def table(self) -> dict[str, dict[str, Handler]]:
        """The paths. GET is for whoever may use a model; POST, PUT and DELETE are for operators."""
        return {
            "api/deployments": {"GET": self.deployments},
            "api/models/{name}/changes": {"GET": self._there(self.changes)},
            "api/models/{name}/rollout": {
                "GET": self._there(self.rollouts),
                "POST": self._theirs(self.begin),
                "DELETE": self._theirs(self.abort),
            },
            "api/models/{name}/route": {"PUT": self._theirs(self.set_route), "DELETE": self._theirs(self.clear_route)},
        }

    def _there(self, handler: Handler) -> Handler:
        """A handler for models that are there: of another one nothing in the request is looked at."""

        async def handle(call: Call) -> Reply:
            name = call.names["name"]
            try:
                await asyncio.to_thread(self.shelf.versions, name)
            except UnknownModel:
                raise NotServed("model", f"{name[:80]!r} is not served", "") from None
            return await handler(call)

        return handle

    def _theirs(self, handler: Handler) -> Handler:
        """A handler for models that are there, and the caller's to change."""

        async def handle(call: Call) -> Reply:
            check_change(call.caller, call.names["name"], is_there=True)
            return await handler(call)

        return self._there(handle)

    async def deployments(self, call: Call) -> Reply:
        """Who answers for each model."""
        live = {name: number for name, number in self.catalogue.known.numbers.items() if call.caller.sees(name)}
        found = await asyncio.to_thread(changes.deployments, self.shelf.database, live)
        return as_json(veiled({"deployments": found}, call.caller))

    async def changes(self, call: Call) -> Reply:
        """What changed about a model."""
        found = await self._asked(lambda: changes.changes(self.shelf, call.names["name"]))
        return as_json(veiled(found, call.caller))

    async def rollouts(self, call: Call) -> Reply:
        """The rollouts of a model."""
        name = call.names["name"]
        found = await self._asked(lambda: changes.rollouts(self.shelf.database, name))
        return as_json(veiled({"rollouts": found}, call.caller))

    async def begin(self, call: Call) -> Reply:
        """Begin a rollout: `{"version": 3, ...}` with the settings of a plan."""
        name, body = call.names["name"], await _json(call)
        if not isinstance(body, dict):
            raise RequestError("body", f"expected an object, came {kind(body)}", 'Such as {"version": 3}.')
        number = body.get("version")
        if type(number) is not int or number < 1:
            raise RequestError(
                "version", f"expected the number of a version, came {kind(number)}", 'Such as {"version": 3}.'
            )
        settings = {key: value for key, value in body.items() if key != "version"}
        rollout = await self._asked(
            lambda: start.start(self.shelf_of(call), f"{name}@{body['version']}", start.plan_of(settings))
        )
        return as_json(changes.summary(rollout, {}), 201)

    async def abort(self, call: Call) -> Reply:
        """End the rollout that is on its way; the live version answers."""
        rollout = await self._asked(lambda: self.book(call).abort(call.names["name"], "aborted by an operator"))
        return as_json(changes.summary(rollout, {}))

    async def set_route(self, call: Call) -> Reply:
        """Let a router say which version answers: `{"method": "canary", ...}`."""
        name, body = call.names["name"], await _json(call)
        route = await self._asked(lambda: start.route(self.shelf_of(call), name, start.known_table_of(body)))
        return as_json({"model": name, "route": {**route.router.as_table(), "at_ms": route.at_ms}})

    async def clear_route(self, call: Call) -> Reply:
        """Let the live version answer."""
        name = call.names["name"]
        return as_json({"model": name, "cleared": await self._asked(lambda: self.book(call).clear_route(name))})

    async def _asked(self, work: Callable[[], T]) -> T:
        """What work on the database gives; what it refuses is the request's fault."""
        try:
            return await asyncio.to_thread(work)
        except UsageError as error:
            raise RequestError(error.where, error.message, error.hint) from None
        except UnknownModel as error:
            raise NotServed(error.where, error.message, error.hint) from None
        except StorageError:
            raise
        except RegistryError as error:
            raise Conflict(error.where, error.message, error.hint) from None


async def _json(call: Call) -> Any:
    """The body, if it says that it is JSON: a page elsewhere cannot make a browser send that unasked.

    Raises UnknownType, RequestError.
    """
    kind = (call.header("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = f"expected application/json, came {kind[:40] or 'nothing'}"
        raise UnknownType("Content-Type", message, "Send it as JSON: Content-Type: application/json.")
    return wire.parse(await call.body())
