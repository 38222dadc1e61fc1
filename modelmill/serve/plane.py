"""The data plane: one way from a request for inference to its outputs, whichever wire it came by."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from modelmill.errors import (
    DeadlineExceeded,
    Draining,
    Forbidden,
    MillError,
    ModelError,
    NotServed,
    OutOfMemory,
    Overloaded,
    OverQuota,
    RequestError,
    TooLarge,
    Unavailable,
    UnknownModel,
)
from modelmill.runtime.pieces import pieces
from modelmill.serve.access.caller import ANYONE, Caller
from modelmill.serve.access.door import OPEN, Door, check_change, check_rows, check_sight
from modelmill.serve.engine.engine import Engine
from modelmill.serve.engine.terms import DEFAULT_TERMS, Terms
from modelmill.serve.engine.turns import ORDINARY_S
from modelmill.serve.models.catalogue import Catalogue
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.models.known import is_number
from modelmill.serve.process.crew import LOOK_S, Board, Changes
from modelmill.serve.traffic.mirror import Copy
from modelmill.serve.traffic.traffic import Header, Traffic

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]

SPREAD_S = 5.0
"""How long the answer to a load or unload waits for the other workers at most."""

Wait = Callable[[asyncio.Future[Outputs]], Awaitable[Outputs]]
"""How a wire waits for outputs: it cancels the future where its client leaves."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of the plane, beside the tensors: whose version, by whom, and on what terms.

    reference: NAME, NAME@3 or NAME@alias. header: what reads a header of the request, where it has any. taken: whether
    it is owed an answer also at the end of the service, since it was taken before.
    """

    reference: str
    terms: Terms = DEFAULT_TERMS
    header: Header | None = None
    caller: Caller = ANYONE
    taken: bool = False


@dataclass
class State:
    """What the service is doing right now; it changes."""

    ready: bool = False
    draining: bool = False
    refusing: bool = False
    """Draining, and past the time in which new requests are still taken."""
    parting: bool = False
    """Draining, and streams take no further messages, which would have no end."""
    in_flight: int = 0
    board: Board | None = None
    """Where the workers of one port say that they are ready; None for a process that is alone."""
    changes: Changes | None = None
    """Where they say how far they have followed each other; None likewise."""

    @property
    def takes(self) -> bool:
        """Whether requests should be sent here: not while a worker is missing, since its share would wait."""
        return self.ready and not self.draining and (self.board is None or self.board.is_whole)


class Plane:
    """Finds the version that answers, and runs it; it holds nothing that changes beside what it is given."""

    def __init__(self, catalogue: Catalogue, engine: Engine, state: State, traffic: Traffic, door: Door = OPEN) -> None:
        self.catalogue = catalogue
        self.engine = engine
        self.state = state
        self.traffic = traffic
        self.door = door

    async def endpoint(self, reference: str, caller: Caller = ANYONE) -> Endpoint:
        """The version that a reference names, loaded if need be. Raises NotServed, also for what others own."""
        check_sight(caller, reference)
        found = self.catalogue.present(reference)
        return found if found is not None else await self.catalogue.endpoint(reference)

    async def is_ready(self, endpoint: Endpoint) -> bool:
        """Whether a version answers: the service is not about to end, and every step of a pipeline can be had."""
        try:
            for step in endpoint.steps:
                await self.catalogue.pinned(step.model)
        except Unavailable:
            return False
        return not self.state.draining

    async def load(self, name: str, caller: Caller, origin: str) -> None:
        """Serve a model again, or its newest live version now, and write down who did.

        Of a pipeline also the models that it is made of, of those that the caller may change. Raises NotServed,
        Forbidden, Unavailable where a step cannot be had.
        """
        check_change(caller, name, name in self.catalogue.known.numbers)
        await asyncio.to_thread(self.catalogue.refresh)
        for each in await asyncio.to_thread(self.catalogue.parts, name):
            if each in self.catalogue.withheld and caller.changes(each):
                await self._load(each, caller, origin)
        for step in await asyncio.to_thread(self.catalogue.steps, name):
            await self.catalogue.pinned(step)
        await self._load(name, caller, origin)
        await self._spread()

    async def _spread(self) -> None:
        """Wait until the other workers have followed what was loaded or unloaded here: the next request may be theirs.

        One that takes too long follows later, and one that is not ready when it is.
        """
        changes, board = self.state.changes, self.state.board
        if changes is None or board is None:
            return
        made = changes.make()
        with suppress(TimeoutError):
            async with asyncio.timeout(SPREAD_S):
                while any(board.beats(index) for index in changes.behind(made)):
                    await asyncio.sleep(LOOK_S)

    async def _load(self, name: str, caller: Caller, origin: str) -> None:
        """Load a model, and write that down; where that is refused, all is as it was."""
        was_unloaded = name in self.catalogue.withheld
        await asyncio.to_thread(self.catalogue.load, name)
        try:
            await asyncio.to_thread(self.door.note, caller.actor(origin), "serve.load", name)
        except MillError:
            if was_unloaded:
                await asyncio.to_thread(self.catalogue.unload, name)
            raise

    async def unload(self, name: str, caller: Caller, origin: str, dependents: bool = False) -> None:
        """Serve a model no longer, until it is loaded, and write down who did. Raises NotServed, Forbidden.

        dependents: with the models that it is made of, of those that the caller may change.
        """
        check_change(caller, name, name in self.catalogue.known.numbers)
        parts = await asyncio.to_thread(self.catalogue.parts, name) if dependents else []
        for each in (*filter(caller.changes, parts), name):
            if each in self.catalogue.known.numbers:
                await asyncio.to_thread(self.door.note, caller.actor(origin), "serve.unload", each)
            await asyncio.to_thread(self.catalogue.unload, each)
        await self._spread()

    def must_load(self, ask: Ask) -> bool:
        """Whether the version that is asked for is served, and not in memory."""
        return self.catalogue.present(ask.reference) is None and self.catalogue.is_served(ask.reference)

    async def begin(self, ask: Ask) -> Endpoint:
        """The version that will answer.

        Raises Draining at the end of the service, NotServed, DeadlineExceeded where it is loaded for too long.
        """
        if ask.terms.deadline == math.inf:
            return await self._picked(ask)
        try:
            async with asyncio.timeout_at(ask.terms.deadline):
                return await self._picked(ask)
        except TimeoutError:
            raise DeadlineExceeded(
                "timeout", "has passed while the model is loaded", "Try again: it goes on."
            ) from None

    async def _picked(self, ask: Ask) -> Endpoint:
        """The version that will answer."""
        if self.state.refusing and not ask.taken:
            raise Draining("service", "is shutting down", "Send the request to another instance.")
        watch = self.traffic.watches.get(ask.reference)
        if watch is not None:
            check_sight(ask.caller, ask.reference)
            picked = self.traffic.pick(watch, ask.header, ask.caller)
            try:
                return await self.endpoint(picked, ask.caller)
            except (NotServed, UnknownModel):
                if picked not in self.traffic.among(watch)[1:]:
                    raise
            # A version that a route or a rollout named was deleted a moment ago, and nobody asked for it by its name.
        return await self.endpoint(ask.reference, ask.caller)

    def asked(self, error: MillError, name: str, version: str | None, caller: Caller) -> tuple[str, str]:
        """Whose figures a refusal is counted in that came before a version was found: the model, and its version.

        Empty where the caller is not known, may not ask, or asks for what does not exist for them. The version is empty
        where it is neither in memory nor has an alias: anybody can make up its number.
        """
        if isinstance(error, Forbidden | NotServed) or (caller is ANYONE and self.door.needs_key):
            return "", ""
        reference = reference_of(name, version)
        name = reference.partition("@")[0]
        key = None if name in self.catalogue.withheld or not caller.sees(name) else self.catalogue.known.key(reference)
        if key is None:
            return "", ""
        is_known = key in self.catalogue.residents.held or key[1] in self.catalogue.known.aliases[name].values()
        return name, str(key[1]) if is_known else ""

    async def run(
        self, ask: Ask, endpoint: Endpoint, columns: Mapping[str, Array], rows: int, names: Sequence[str], wait: Wait
    ) -> Outputs:
        """The named outputs for checked columns. Raises RequestError, Overloaded, ModelError, and what `wait` does."""
        if ask.caller.key_id:
            check_rows(ask.caller, rows)
        return await self._run(ask, endpoint, columns, rows, tuple(names), wait)

    async def run_pieces(
        self, ask: Ask, endpoint: Endpoint, columns: Mapping[str, Array], rows: int, wait: Wait
    ) -> list[tuple[Outputs, int]]:
        """As `run`, all outputs of one call after another where the model takes a fixed number of rows in each.

        Each with how many of its rows count.
        """
        calls = pieces(columns, endpoint.signature, rows)
        if ask.caller.key_id:
            check_rows(ask.caller, rows)
        expected = endpoint.expected
        names = tuple(expected.outputs)
        parts: list[tuple[Outputs, int]] = []
        for each, count in calls:
            outputs = await self._run(ask, endpoint, each, expected.rows(each), names, wait)
            parts.append((outputs, count))
        return parts

    async def _run(
        self, ask: Ask, endpoint: Endpoint, columns: Mapping[str, Array], rows: int, wanted: tuple[str, ...], wait: Wait
    ) -> Outputs:
        try:
            if endpoint.steps:
                outputs = await self._through(ask, endpoint, columns, rows, wanted, wait)
            elif self.engine.fits_inline(endpoint.lane, rows, columns):
                await self.engine.turns.take(ask.terms)
                began = perf_counter()
                outputs = self.engine.run_inline(endpoint.lane, columns, rows, wanted, ask.terms)
                self.engine.turns.spent(ask.terms, perf_counter() - began + ORDINARY_S)
            else:
                outputs = await wait(self.put(endpoint, ask.caller, columns, rows, wanted, ask.terms, counted=True))
        except MillError as error:
            self.count(ask.reference, endpoint, Copy(columns, rows, wanted), error)
            raise blamed(error, endpoint) if isinstance(error, ModelError) else error from None
        self.count(ask.reference, endpoint, Copy(columns, rows, wanted), outputs)
        return outputs

    def put(
        self,
        endpoint: Endpoint,
        caller: Caller,
        columns: Mapping[str, Array],
        rows: int,
        names: tuple[str, ...],
        terms: Terms,
        counted: bool = False,
    ) -> asyncio.Future[Outputs]:
        """A future with the outputs for checked columns, which the engine takes now; cancel it to give up.

        counted: whether the request is among those in flight already. Raises Overloaded, DeadlineExceeded; the future
        raises what a run does.
        """
        enter(endpoint, caller)
        try:
            future = self.engine.submit(endpoint.lane, columns, rows, names, terms)
        except MillError:
            leave(endpoint, caller)
            raise
        self.state.in_flight += not counted
        future.add_done_callback(partial(self._left, endpoint, caller, counted))
        return future

    def _left(self, endpoint: Endpoint, caller: Caller, counted: bool, future: asyncio.Future[Outputs]) -> None:
        leave(endpoint, caller)
        self.state.in_flight -= not counted

    async def _through(
        self, ask: Ask, whole: Endpoint, columns: Mapping[str, Array], rows: int, names: Sequence[str], wait: Wait
    ) -> Outputs:
        """The outputs of a pipeline: every step runs in its model's own lane, on the tensors of those before it."""
        tensors = dict(columns)
        began = perf_counter()
        with entered(whole, ask.caller):
            for step in whole.steps:
                at = await self.catalogue.pinned(step.model)
                given = step.given(tensors)
                count = at.expected.rows(given)
                wanted = tuple(step.outputs)
                if self.engine.fits_inline(at.lane, count, given):
                    outputs = self.engine.run_inline(at.lane, given, count, wanted, ask.terms)
                    if at.lane.meter is not None:
                        at.lane.meter.awake()
                else:
                    at.in_flight += 1
                    try:
                        outputs = await wait(self.engine.submit(at.lane, given, count, wanted, ask.terms))
                    finally:
                        at.in_flight -= 1
                tensors.update(step.made(outputs))
        meter = whole.lane.meter
        if meter is not None:
            meter.ran(rows, 0, round((perf_counter() - began) * 1e9), 0)
        return {name: tensors[name] for name in names}

    def routed(self, reference: str, header: Header, caller: Caller) -> Endpoint | None:
        """The version that answers for a reference that is watched, where all that may are alike, and in memory.

        None else, before any is picked: whoever asks then has one picked anew, and one that some requests cannot have
        here would have fewer than it is to have. Raises RequestError, NotServed.
        """
        watch = self.traffic.watches.get(reference)
        if watch is None:
            return None
        first, *others = (self.catalogue.present(each) for each in self.traffic.among(watch))
        if first is None or not all(_is_like(first, each) for each in others):
            return None
        return self.catalogue.present(self.traffic.pick(watch, header, caller))

    def count(self, reference: str, endpoint: Endpoint, copy: Copy, came: Outputs | Exception) -> None:
        """Tell traffic what came of a request for NAME alone, where it is watched: outputs, or what was raised."""
        watch = self.traffic.watches.get(reference)
        if watch is None:
            return
        if not isinstance(came, Exception):
            self.traffic.answered(watch, endpoint, copy, came, self.catalogue.present(watch.name))
        elif isinstance(came, ModelError | DeadlineExceeded | Overloaded) and not isinstance(came, Draining):
            # a version that is too slow fails so, too
            self.traffic.answered(watch, endpoint, copy, None, self.catalogue.present(watch.name))


def _is_like(one: Endpoint, other: Endpoint | None) -> bool:
    """Whether two versions take and give the same, and are run in the same way."""
    if other is None or bool(one.steps) != bool(other.steps):
        return False
    a, b = one.signature, other.signature
    return a.inputs == b.inputs and a.outputs == b.outputs


def enter(endpoint: Endpoint, caller: Caller) -> None:
    """Count a request among those in the engine: of its version, which stays in memory meanwhile, and of its tenant.

    Raises OverQuota where the tenant has as many there as it may.
    """
    tenancy, most = caller.tenancy, caller.tier.queue_requests
    if tenancy.waiting >= most and caller.key_id:
        message = f"{most} requests of {caller.tenant} wait already, as many as tier {caller.tier.name} may have"
        raise OverQuota("tenant", message, "Try again in a second.")
    tenancy.waiting += 1
    endpoint.in_flight += 1


def leave(endpoint: Endpoint, caller: Caller) -> None:
    """Count a request no longer that has entered."""
    endpoint.in_flight -= 1
    caller.tenancy.waiting -= 1


@contextmanager
def entered(endpoint: Endpoint, caller: Caller) -> Iterator[None]:
    """Count a request as long as it is in the engine. Raises OverQuota as `enter` does."""
    enter(endpoint, caller)
    try:
        yield
    finally:
        leave(endpoint, caller)


def blamed(error: ModelError, endpoint: Endpoint) -> MillError:
    """The failure of a run as whoever asked should hear it: where a request can be at fault, it may be this one."""
    if isinstance(error, OutOfMemory):
        return TooLarge("inputs", f"the model {error.message}", "Send fewer rows at a time, or smaller sizes.")
    if not endpoint.is_open:
        return error
    return RequestError("inputs", error.message, "Check the sizes that the model leaves open, integers and texts.")


def reference_of(name: str, version: str | None) -> str:
    """The reference of a name and a version as the protocol gives them.

    >>> reference_of("digits", "3"), reference_of("digits@live", None)
    ('digits@3', 'digits@live')
    """
    if not version:
        return name
    if not is_number(version) or "@" in name:
        raise RequestError("version", f"{version[:40]!r} is not the number of a version", "Use a number such as 1.")
    return f"{name}@{int(version)}"
