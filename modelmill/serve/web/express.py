"""The short way of small requests: decoded, run and answered where they were parsed, on the loop.

What is done is what the ordinary handler does, by the same functions. Whatever is not plain success is left to that
handler, which begins anew: it has the words for errors, and the patience for what must wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelmill.errors import MillError, OverQuota
from modelmill.serve import standing
from modelmill.serve.access.caller import ANYONE, Caller
from modelmill.serve.access.door import LOOKED_AT, check_rate, check_rows, infers
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.plane import Plane
from modelmill.serve.signals.signals import Signals
from modelmill.serve.signals.trace import Parent, parent
from modelmill.serve.web import wire
from modelmill.serve.web.http import JSON, refusal, told
from modelmill.serve.web.protocol import head

BEFORE, AFTER = b"/v2/models/", b"/infer"
LENGTH, TRACE = b"inference-header-content-length", b"traceparent"

ORDINARY = frozenset({b"content-encoding", b"transfer-encoding"})
"""Headers that ask for more than the short way has."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the line and the headers of a request ask for; it holds nothing that changes, and so may be kept.

    json_bytes: as the header of the binary tensor data extension says it. above: the caller's span, for the log.
    """

    name: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Those that say who asks."""
    json_bytes: str | None
    above: Parent | None


class Express:
    """Answers inference requests of the protocol for models that are loaded and cheap."""

    def __init__(self, plane: Plane, signals: Signals) -> None:
        self.plane = plane
        self.door = plane.door
        self.signals = signals

    def opened(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Opening | None:
        """What the head of a POST asks for, if the short way has it and its model is cheap now."""
        if url[:11] != BEFORE or url[-6:] != AFTER:
            return None
        name = url[11:-6].decode("latin-1")
        if self._endpoint(name) is None:
            return None
        length: str | None = None
        traces: list[str] = []
        for key, value in headers:
            if key in ORDINARY or (key == LENGTH and length is not None):
                return None
            if key == TRACE and self.signals.tracer is not None:
                return None
            if key == TRACE and self.signals.tells_traces:
                traces.append(value.decode("latin-1"))
            if key == LENGTH:
                length = value.decode("latin-1").strip()
        above = parent(traces[0]) if len(traces) == 1 else None
        return Opening(name, tuple(pair for pair in headers if pair[0] in LOOKED_AT), length, above)

    def _endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of a name, if its model is cheap and requests are taken."""
        if self.plane.state.draining or name in self.plane.traffic.watches:
            return None
        endpoint = self.plane.catalogue.served.get(name)
        if endpoint is None or not self.plane.engine.fits_inline(endpoint.lane, 1):
            return None
        return endpoint

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

    def answer(self, opening: Opening, body: bytes) -> bytes | None:
        """The whole answer; None where the request is not plain."""
        started = time.perf_counter()
        endpoint = self._endpoint(opening.name)
        caller = self.door.known(opening.headers)
        if endpoint is None or caller is None or not infers(caller, endpoint.name):
            return None
        gate = caller.gate
        if gate is not None and gate.is_full(time.monotonic_ns()):
            return self._over(opening, caller, 0, len(body), started)
        endpoint.used = time.monotonic()
        expected = endpoint.expected
        try:
            request = wire.read(body, opening.json_bytes, expected)
            if not self.plane.engine.fits_inline(endpoint.lane, request.rows) or request.rows > caller.tier.batch_rows:
                return None
            if request.wishes.timeout_s < math.inf:
                return None
            if gate is not None and gate.rows_left(time.time()) < request.rows:
                return None
            names = tuple([asked.name for asked in request.outputs])
            outputs = self.plane.engine.run_inline(endpoint.lane, request.columns, request.rows, names)
            ran = time.perf_counter()
            answer = wire.write(request, outputs, expected, endpoint.name, endpoint.number)
        except MillError:
            return None
        if gate is not None:  # not before: what fails is left to the ordinary handler, which counts it
            over = self._over(opening, caller, request.rows, len(body), started)
            if over is not None:
                return over
        ended = time.perf_counter()
        self.signals.figures.of(endpoint.name, endpoint.label).encode.add(ended - ran)
        sizes = (len(body), len(answer.body))
        which = ("v2", endpoint.name, endpoint.label)
        self.signals.answered(*which, 200, ended - started, request.id, opening.above, sizes, caller.tenant)
        self.plane.engine.turns.spent(caller.terms, ended - started)
        headers: tuple[tuple[str, str], ...] = (("modelmill-version", endpoint.version.reference),)
        kind = JSON
        if answer.json_bytes is not None:
            kind = "application/octet-stream"
            headers += ((LENGTH.decode(), str(answer.json_bytes)),)
        if gate is not None:
            headers += standing.headers(caller)
        return head(200, kind, len(answer.body), headers) + answer.body

    def _over(self, opening: Opening, caller: Caller, rows: int, size: int, started: float) -> bytes | None:
        """Count a request and its rows; the answer where that is beyond the quota, which is cheap to say."""
        try:
            check_rate(caller)
            if rows:
                check_rows(caller, rows)
            return None
        except OverQuota as error:
            reply = told(refusal(error), caller)
        seconds = time.perf_counter() - started
        sizes = (size, len(reply.body))
        self.signals.answered("v2", "", "", reply.status, seconds, None, opening.above, sizes, caller.tenant)
        self.plane.engine.turns.spent(caller.terms, seconds)
        return head(reply.status, reply.content_type, len(reply.body), reply.headers) + reply.body
