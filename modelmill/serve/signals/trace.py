"""Traces: whose request this is a part of, by the W3C's header, and a span where it was sampled.

Whether a request is sampled is known before anything is made for it: the caller's word counts, and of requests without
one a stated part is taken. Spans go to OpenTelemetry, which is an extra.

W3C (2021), Trace Context, https://www.w3.org/TR/trace-context-1/
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelmill.errors import MissingExtra
from modelmill.serve.signals.seldom import hush

PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


CLOSING_S = 1.5
"""How long the end waits for what was not sent yet: a collector that is gone keeps nobody."""

STATE_CHARS = 2048
"""The longest `tracestate` that is read; the W3C wants 512 to be passed on."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The span of the caller. state: what tracers before us want to have passed on, as they wrote it."""

    trace: str
    span: str
    sampled: bool
    state: str = ""


def parent(header: str | None, state: str = "") -> Parent | None:
    """The caller's span in the header `traceparent`; None where there is none, or none that can be read.

    state: the header `tracestate`, its values joined by commas where it came more than once.

    >>> parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").sampled
    True
    >>> parent("00-00000000000000000000000000000000-b7ad6b7169203331-01")
    """
    found = PARENT.fullmatch(header.strip()) if header else None
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not trace.strip("0") or not span.strip("0"):
        return None
    return Parent(trace, span, bool(int(flags, 16) & 1), state)


class Tracer(Protocol):
    """Where spans go."""

    def ended(
        self, name: str, parent: Parent | None, at_ns: tuple[int, int], told: Mapping[str, Any], failed: bool
    ) -> None:
        """Take a span. at_ns: when it began and ended, since 1970."""

    def close(self) -> None:
        """Send what was not sent yet."""


class OpenTelemetry:
    """Spans for a collector, in OpenTelemetry's own form; where they go is the environment's `OTEL_EXPORTER_...`.

    A span is made when it has ended, whole, which costs a tenth of beginning and ending one.
    """

    def __init__(self, exporter: Any = None) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError:
            raise MissingExtra.of("--trace-ratio", "OpenTelemetry", "otel") from None
        hush("opentelemetry", "traces")
        self._resource = Resource.create({"service.name": "modelmill"})
        self._scope = InstrumentationScope("modelmill")
        self._processor = BatchSpanProcessor(exporter if exporter is not None else _exporter())
        self._is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"

    def ended(
        self, name: str, parent: Parent | None, at_ns: tuple[int, int], told: Mapping[str, Any], failed: bool
    ) -> None:
        """Make the span, and end it."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

        if self._is_off:
            return
        flags, far, state, trace = TraceFlags(TraceFlags.SAMPLED), None, None, random.getrandbits(128) or 1
        if parent is not None:
            state = TraceState.from_header([parent.state] if len(parent.state) <= STATE_CHARS else [])
            far = SpanContext(int(parent.trace, 16), int(parent.span, 16), True, flags, state)
            trace = far.trace_id
        span = ReadableSpan(
            name,
            SpanContext(trace, random.getrandbits(64) or 1, False, flags, state),
            far,
            self._resource,
            dict(told),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR) if failed else Status(),
            start_time=at_ns[0],
            end_time=at_ns[1],
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)

    def close(self) -> None:
        """Send what was not sent yet, as far as that takes no longer than the end may."""
        sending = threading.Thread(target=self._processor.shutdown, name="modelmill-spans", daemon=True)
        sending.start()
        sending.join(CLOSING_S)


def _exporter() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise MissingExtra.of("--trace-ratio", "OpenTelemetry", "otel") from None
    return OTLPSpanExporter()
