"""The short way of small requests: decoded, run and answered where they were parsed, on the loop.

What is done is what the ordinary handler does, by the same functions. Whatever is not plain success is left to that
handler, which begins anew: it has the words for errors, and the patience for what must wait.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from modelmill.errors import MillError
from modelmill.serve.access.door import is_plain
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


class Express:
    """Answers inference requests of the protocol for models that are loaded and cheap."""

    def __init__(self, plane: Plane, signals: Signals) -> None:
        self.plane = plane
        self.door = plane.door
        self.signals = signals

    def knows(self, url: bytes) -> Endpoint | None:
        """The endpoint of a URL, if its model is cheap and requests are taken."""
        if url[:11] != BEFORE or url[-6:] != AFTER or self.plane.state.draining:
            return None
        name = url[11:-6].decode("latin-1")
        endpoint = self.plane.catalogue.served.get(name) if name not in self.plane.traffic.watches else None
        if endpoint is None or not self.plane.engine.fits_inline(endpoint.lane, 1):
            return None
        endpoint.used = time.monotonic()
        return endpoint

    def answer(self, endpoint: Endpoint, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes | None:
        """The whole answer; None where the request is not plain."""
        started = time.perf_counter()
        caller = self.door.known(headers)
        if caller is None or not is_plain(caller, endpoint.name):
            return None
        length: str | None = None
        for name, value in headers:
            if name in ORDINARY or (name == LENGTH and length is not None):
                return None
            if name == b"traceparent" and self.signals.tracer is not None:
                return None
            if name == LENGTH:
                length = value.decode("latin-1").strip()
        try:
            request = wire.read(body, length, endpoint.expected)
            if not self.plane.engine.fits_inline(endpoint.lane, request.rows) or request.rows > caller.tier.batch_rows:
                return None
            names = tuple(asked.name for asked in request.outputs)
            outputs = self.plane.engine.run_inline(endpoint.lane, request.columns, request.rows, names)
            ran = time.perf_counter()
            answer = wire.write(request, outputs, endpoint.expected, endpoint.name, endpoint.number)
        except MillError:
            return None
        ended = time.perf_counter()
        self.signals.figures.of(endpoint.name, endpoint.label).encode.add(ended - ran)
        sizes = (len(body), len(answer.body))
        self.signals.answered("v2", endpoint.name, endpoint.label, 200, ended - started, request.id, None, *sizes)
        reference = ("modelmill-version", endpoint.version.reference)
        if answer.json_bytes is None:
            return head(200, JSON, len(answer.body), (reference,)) + answer.body
        part = (LENGTH.decode(), str(answer.json_bytes))
        return head(200, "application/octet-stream", len(answer.body), (reference, part)) + answer.body
