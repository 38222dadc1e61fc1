"""The short way of small requests: decoded, run and answered where they were parsed, on the loop.

What is to run on a thread is handed to the engine there, and answered as soon as its run is done. What is done is what
the ordinary handler does, by the same functions. Whatever is not plain success is left to that handler, which begins
anew: it has the words for errors. Only what goes wrong in the engine is said here, since it is not asked twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from modelmill.errors import MillError, ModelError, OverQuota, RequestError
from modelmill.serve import standing
from modelmill.serve.access.caller import ANYONE, Caller
from modelmill.serve.access.door import LOOKED_AT, check_rate, check_rows, infers, used_up
from modelmill.serve.engine.terms import DEFAULT_TERMS
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.plane import Plane, blamed, reference_of
from modelmill.serve.request import Request, elements, no_room, whole
from modelmill.serve.signals.answer import Answer
from modelmill.serve.signals.signals import Signals
from modelmill.serve.signals.trace import Parent, parent
from modelmill.serve.traffic.mirror import Copy
from modelmill.serve.web import wire
from modelmill.serve.web.heads import head
from modelmill.serve.web.http import FAILED, JSON, LAST, Reply, as_last, header, stamped, told, worded

BEFORE, VERSIONS, AFTER = b"/v2/models/", "/versions/", b"/infer"
LENGTH, SIZE, TRACE = b"inference-header-content-length", b"content-length", b"traceparent"

BODY_MOST = 1_000_000
"""Bytes of a body that may go the short way."""

ORDINARY = frozenset({b"content-encoding", b"transfer-encoding"})
"""Headers that ask for more than the short way has."""

Outputs = dict[str, np.ndarray[Any, Any]]

NOTHING: Any = None


@dataclass(frozen=True, slots=True)
class Opening:
    """What the line and the headers of a request ask for; it holds nothing that changes, and so may be kept.

    json_bytes: as the header of the binary tensor data extension says it. above: the caller's span.
    """

    reference: str
    """NAME, or NAME@3 where a version is asked for."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Those that say who asks."""
    all_headers: tuple[tuple[bytes, bytes], ...]
    """Also those by which a route may pick a version."""
    json_bytes: str | None
    above: Parent | None


@dataclass(slots=True, eq=False)
class Asked:
    """A request on the short way: what it asks, of which version, who asks, and when it came."""

    opening: Opening
    endpoint: Endpoint
    caller: Caller
    request: Request
    size: int
    """The bytes of its body."""
    started: float
    future: asyncio.Future[Outputs] | asyncio.Future[wire.Answer] = NOTHING
    """Of one that is in the engine: done with the outputs, or with a long answer; cancelled when the client leaves."""
    ran: float = 0.0
    """When the outputs were there."""


class Express:
    """Answers inference requests of the protocol for models that are loaded."""

    def __init__(self, plane: Plane, signals: Signals, body_bytes: int = BODY_MOST) -> None:
        self.plane = plane
        self.body_bytes = min(BODY_MOST, body_bytes)
        self.door = plane.door
        self.signals = signals

    def opened(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Opening | None:
        """What the head of a POST asks for, if the short way has it, of whoever may send such a body now."""
        if url[:11] != BEFORE or url[-6:] != AFTER:
            return None
        name, pinned, version = url[11:-6].decode("latin-1").partition(VERSIONS)
        try:
            reference = reference_of(name, version)
        except RequestError:
            return None
        if pinned and not version:
            return None
        caller, endpoint = self.door.known(headers), self._endpoint(reference)
        if caller is None or endpoint is None or not infers(caller, endpoint.name):
            return None
        if caller.gate is not None and caller.gate.wait(time.monotonic_ns()):
            return None
        length: str | None = None
        size: int | None = None
        traces: list[str] = []
        for key, value in headers:
            if key in ORDINARY or (key == LENGTH and length is not None):
                return None
            if key == TRACE and self.signals.tracer is not None:
                return None
            if key == TRACE:
                traces.append(value.decode("latin-1"))
            if key == SIZE:
                size = whole(value.decode("latin-1").strip())
            if key == LENGTH:
                length = value.decode("latin-1").strip()
        if size is None or size > min(self.body_bytes, caller.tier.payload_bytes):
            return None
        above = parent(traces[0]) if len(traces) == 1 else None
        said = tuple(pair for pair in headers if pair[0] in LOOKED_AT)
        return Opening(reference, said, tuple(headers), length, above)

    def _endpoint(self, reference: str) -> Endpoint | None:
        """The endpoint of a reference, if it is in memory and requests are taken; it is in use then."""
        endpoint = self.plane.catalogue.present(reference)
        return None if endpoint is None or endpoint.steps or self.plane.state.draining else endpoint

    def _picked(self, opening: Opening, caller: Caller) -> Endpoint | None:
        """The endpoint that answers for a name whose traffic is watched, if it is in memory."""
        try:
            endpoint = self.plane.routed(opening.reference, partial(header, opening.all_headers), caller)
        except MillError:
            return None
        return None if endpoint is None or endpoint.steps else endpoint

    @property
    def is_mixed(self) -> bool:
        """Whether several payers ask at the same time."""
        return self.plane.engine.turns.is_mixed

    def must_wait(self, opening: Opening) -> bool:
        """Whether others have had less of the loop than whoever asks."""
        caller = self.door.known(opening.headers)
        return caller is not None and self.plane.engine.turns.must_wait(caller.terms)

    def later(self, opening: Opening, work: Callable[[], None]) -> None:
        """Have `work` done when it is the turn of whoever asks."""
        caller = self.door.known(opening.headers)
        self.plane.engine.turns.put((caller or ANYONE).terms, work)

    def answer(self, opening: Opening, body: bytes, patient: bool = True) -> bytes | Asked | None:
        """The whole answer, or what is to come of it; None where the request is not plain.

        patient: whether the answer may come later.
        """
        started = time.perf_counter()
        endpoint = self._endpoint(opening.reference)
        caller = self.door.known(opening.headers)
        if endpoint is None or caller is None or not infers(caller, endpoint.name):
            return None
        watched = opening.reference in self.plane.traffic.watches
        if watched:
            # Nobody is asked twice who is to be picked once: what cannot be answered later is left to the handler.
            endpoint = self._picked(opening, caller) if patient else None
            if endpoint is None:
                return None
        gate = caller.gate
        wait = gate.wait(time.monotonic_ns()) if gate is not None else 0
        if gate is not None and wait:
            return self._refused(opening, endpoint, caller, used_up(gate, wait), len(body), started)
        engine = self.plane.engine
        if wire.is_long(body, opening.json_bytes, endpoint.expected):
            return None
        try:
            request = wire.read(body, opening.json_bytes, endpoint.expected)
            known = request.rows * endpoint.expected.row_elements
            if request.rows > caller.tier.batch_rows or wire.is_long_to_write(request, known):
                return None
            if gate is not None and gate.rows_left(time.time()) < request.rows:
                return None
            asked = Asked(opening, endpoint, caller, request, len(body), started)
            if not engine.fits_inline(endpoint.lane, request.rows, request.columns):
                return self._put(asked) if patient else None
            if watched:
                return self._watched(asked)
            terms = request.wishes.terms(DEFAULT_TERMS, engine.ns() / 1e9)
            outputs = engine.run_inline(endpoint.lane, request.columns, request.rows, request.names, terms)
            ran = time.perf_counter()
            answer = wire.write(request, outputs, endpoint.expected, endpoint.name, endpoint.number)
        except Exception:  # noqa: BLE001 - the ordinary handler meets it again, and has the words
            return None
        if gate is not None:  # not before: what fails is left to the ordinary handler, which counts it
            over = self._over(asked)
            if over is not None:
                return over
        return self._answered(asked, answer, ran)

    def _watched(self, asked: Asked) -> bytes:
        """The answer to a request that is run at once, of which traffic is told.

        Whatever goes wrong is said here: the handler would ask whichever version is picked next.
        """
        endpoint, caller, request = asked.endpoint, asked.caller, asked.request
        if caller.gate is not None:
            over = self._over(asked)
            if over is not None:
                return over
        terms = request.wishes.terms(DEFAULT_TERMS, self.plane.engine.ns() / 1e9)
        try:
            outputs = self.plane.engine.run_inline(endpoint.lane, request.columns, request.rows, request.names, terms)
            self._count(asked, outputs)
            ran = time.perf_counter()
            answer = wire.write(request, outputs, endpoint.expected, endpoint.name, endpoint.number)
        except Exception as error:  # noqa: BLE001 - whoever asked hears of it, and what is our fault is in the log
            self._count(asked, error)
            return self._failed(asked, error, last=False)
        return self._answered(asked, answer, ran)

    def _count(self, asked: Asked, came: Outputs | Exception) -> None:
        """Tell traffic what came of a request, where it is watched."""
        reference, request = asked.opening.reference, asked.request
        if reference in self.plane.traffic.watches:
            self.plane.count(reference, asked.endpoint, Copy(request.columns, request.rows, request.names), came)

    def _put(self, asked: Asked) -> bytes | Asked:
        """Hand a request to the engine; the answer, where that does not take it."""
        endpoint, caller, request = asked.endpoint, asked.caller, asked.request
        if caller.gate is not None:
            over = self._over(asked)
            if over is not None:
                return over
        terms = request.wishes.terms(caller.terms, self.plane.engine.ns() / 1e9)
        try:
            asked.future = self.plane.put(endpoint, caller, request.columns, request.rows, request.names, terms)
        except MillError as error:
            self._count(asked, error)
            return self._failed(asked, error, last=False)
        return asked

    def finish(self, asked: Asked, last: bool) -> tuple[bytes, bool] | None:
        """The answer to a request whose future is done, and whether its connection ends with it; None for another one.

        last: whether it does in any case. There is no answer for whoever has left. What is long is written on a thread,
        and comes with another future.
        """
        endpoint, request = asked.endpoint, asked.request
        last = last or self.plane.state.draining
        if asked.future.cancelled():
            self._tell(asked, 499, 0)
            return b"", True
        try:
            found = asked.future.result()
            if isinstance(found, wire.Answer):
                return self._answered(asked, found, asked.ran, last), last
            self._count(asked, found)
            asked.ran = time.perf_counter()
            written = (request, found, endpoint.expected, endpoint.name, endpoint.number)
            if endpoint.expected.opens and wire.is_long_to_write(request, elements(found)):
                asked.future = asyncio.get_running_loop().run_in_executor(None, wire.write, *written)
                return None
            return self._answered(asked, wire.write(*written), asked.ran, last), last
        except Exception as error:  # noqa: BLE001 - whoever asked hears of it, and what is our fault is in the log
            self._count(asked, error)
            return self._failed(asked, error, last), last

    def _answered(self, asked: Asked, answer: wire.Answer, ran: float, last: bool = False) -> bytes:
        """Tell of an answer that was put into bytes since `ran`, and give it its head."""
        endpoint, caller, ended = asked.endpoint, asked.caller, time.perf_counter()
        seconds = ended - asked.started
        self.signals.figures.of(endpoint.name, endpoint.label).answered("v2", 200, seconds, ended - ran)
        if self.signals.draw.hits():
            self.signals.tell(_told(asked, 200, seconds, len(answer.body)), drawn=True)
        if asked.future is NOTHING:
            self.plane.engine.turns.spent(caller.terms, seconds)
        headers: tuple[tuple[str, str], ...] = ((standing.VERSION, endpoint.version.reference),)
        kind = JSON
        if answer.json_bytes is not None:
            kind = "application/octet-stream"
            headers += ((LENGTH.decode(), str(answer.json_bytes)),)
        if caller.gate is not None:
            headers += standing.headers(caller)
        if last:
            headers += (LAST,)
        return head(200, kind, len(answer.body), headers) + answer.body

    def _failed(self, asked: Asked, error: Exception, last: bool) -> bytes:
        """Tell of a request that went wrong in the engine, and say so."""
        error = no_room() if isinstance(error, MemoryError) else error
        if isinstance(error, MillError):
            said = blamed(error, asked.endpoint) if isinstance(error, ModelError) else error
            reply = told(worded(said, asked.caller), asked.caller)
        else:
            context = {"message": f"a request for {asked.endpoint.name} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            reply = FAILED
        reply = stamped(reply, asked.endpoint.name, asked.endpoint.label)
        self._tell(asked, reply.status, len(reply.body), isinstance(error, OverQuota))
        return _whole(as_last(reply) if last else reply)

    def _tell(self, asked: Asked, code: int, bytes_out: int, over_quota: bool = False) -> None:
        """Tell of what went wrong in the engine, and count what it cost the loop, where it never got there."""
        seconds = time.perf_counter() - asked.started
        self.signals.answered(_told(asked, code, seconds, bytes_out, over_quota))
        if asked.future is NOTHING:
            self.plane.engine.turns.spent(asked.caller.terms, seconds)

    def _over(self, asked: Asked) -> bytes | None:
        """Count a request and its rows; the answer where that is beyond the quota."""
        try:
            check_rate(asked.caller)
            check_rows(asked.caller, asked.request.rows)
            return None
        except OverQuota as error:
            return self._refused(asked.opening, asked.endpoint, asked.caller, error, asked.size, asked.started)

    def _refused(
        self, opening: Opening, at: Endpoint, caller: Caller, error: OverQuota, size: int, started: float
    ) -> bytes:
        """The answer to a request beyond the quota, which is cheap to say."""
        reply = stamped(told(worded(error, caller), caller), at.name, at.label)
        seconds = time.perf_counter() - started
        sizes = (size, len(reply.body))
        answer = Answer("v2", at.name, at.label, reply.status, seconds, None, opening.above, sizes, caller.tenant, True)
        self.signals.answered(answer)
        self.plane.engine.turns.spent(caller.terms, seconds)
        return _whole(reply)


def _told(asked: Asked, code: int, seconds: float, bytes_out: int, over_quota: bool = False) -> Answer:
    """The answer to a request, as it is told of."""
    at, sizes = asked.endpoint, (asked.size, bytes_out)
    above, tenant = asked.opening.above, asked.caller.tenant
    return Answer("v2", at.name, at.label, code, seconds, asked.request.id, above, sizes, tenant, over_quota)


def _whole(reply: Reply) -> bytes:
    """An answer with its head."""
    return head(reply.status, reply.content_type, len(reply.body), reply.headers) + reply.body
