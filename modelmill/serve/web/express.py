"""The short way of small requests: decoded, run and answered where they were parsed, on the loop.

What is done is what the ordinary handler does, by the same functions. Whatever is not plain success is left to that
handler, which begins anew: it has the words for errors, and the patience for what must wait.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from modelmill.errors import MillError
from modelmill.serve.access.door import LOOKED_AT, is_plain
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.plane import Plane
from modelmill.serve.signals.signals import Signals
from modelmill.serve.web import wire
from modelmill.serve.web.http import JSON
from modelmill.serve.web.protocol import head

BEFORE, AFTER = b"/v2/models/", b"/infer"
LENGTH = b"inference-header-content-length"

ORDINARY = frozenset({b"content-encoding", b"transfer-encoding"})
"""Headers that ask for more than the short way has."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the line and the headers of a request ask for; it holds nothing that changes, and so may be kept.

    json_bytes: as the header of the binary tensor data extension says it.
    """

    name: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Those that say who asks."""
    json_bytes: str | None


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
        for key, value in headers:
            if key in ORDINARY or (key == LENGTH and length is not None):
                return None
            if key == b"traceparent" and self.signals.tracer is not None:
                return None
            if key == LENGTH:
                length = value.decode("latin-1").strip()
        return Opening(name, tuple(pair for pair in headers if pair[0] in LOOKED_AT), length)

    def _endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of a name, if its model is cheap and requests are taken."""
        if self.plane.state.draining or name in self.plane.traffic.watches:
            return None
        endpoint = self.plane.catalogue.served.get(name)
        if endpoint is None or not self.plane.engine.fits_inline(endpoint.lane, 1):
            return None
        return endpoint

    def answer(self, opening: Opening, body: bytes) -> bytes | None:
        """The whole answer; None where the request is not plain."""
        started = time.perf_counter()
        endpoint = self._endpoint(opening.name)
        caller = self.door.known(opening.headers)
        if endpoint is None or caller is None or not is_plain(caller, endpoint.name):
            return None
        endpoint.used = time.monotonic()
        expected = endpoint.expected
        try:
            request = wire.read(body, opening.json_bytes, expected)
            if not self.plane.engine.fits_inline(endpoint.lane, request.rows) or request.rows > caller.tier.batch_rows:
                return None
            names = tuple([asked.name for asked in request.outputs])
            outputs = self.plane.engine.run_inline(endpoint.lane, request.columns, request.rows, names)
            ran = time.perf_counter()
            answer = wire.write(request, outputs, expected, endpoint.name, endpoint.number)
        except MillError:
            return None
        ended = time.perf_counter()
        self.signals.figures.of(endpoint.name, endpoint.label).encode.add(ended - ran)
        sizes = (len(body), len(answer.body))
        which = ("v2", endpoint.name, endpoint.label)
        self.signals.answered(*which, 200, ended - started, request.id, None, sizes, caller.tenant)
        reference = ("modelmill-version", endpoint.version.reference)
        if answer.json_bytes is None:
            return head(200, JSON, len(answer.body), (reference,)) + answer.body
        part = (LENGTH.decode(), str(answer.json_bytes))
        return head(200, "application/octet-stream", len(answer.body), (reference, part)) + answer.body
