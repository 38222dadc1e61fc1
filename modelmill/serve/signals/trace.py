"""Traces: whose request this is a part of, by the W3C's header, and a span where it was sampled.

Whether a request is sampled is known before anything is made for it: the caller's word counts, and of requests without
one a stated part is taken. Spans go to OpenTelemetry, which is an extra.

W3C (2021), Trace Context, https://www.w3.org/TR/trace-context-1/
"""

from __future__ import annotations

import importlib
import os
import random
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelmill.errors import MissingExtra, OutOfBounds, UnknownName
from modelmill.serve.signals.seldom import hush

PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


CLOSING_S = 1.5
"""How long the end waits for what was not sent yet: a collector that is gone keeps nobody."""

EXPORTER, SAMPLER = "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
"""Variables of OpenTelemetry: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/"""

EXPORTERS = {
    "http/protobuf": (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "opentelemetry-exporter-otlp-proto-http",
    ),
    "grpc": ("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", "opentelemetry-exporter-otlp-proto-grpc"),
}
"""Protocols to a collector: the module of each, and the package that has it."""

SAMPLERS = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}
"""Samplers, and the part of requests that each takes; None is the one that is stated beside it."""

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


@dataclass(frozen=True, slots=True)
class Sampler:
    """Which requests become spans.

    ratio: the part of those for which the caller's word does not decide. hears_parents: whether it does where there is
    one.
    """

    ratio: float
    hears_parents: bool = True

    def takes(self, parent: Parent | None, drawn: bool) -> bool:
        """Whether a request becomes a span. drawn: whether it was drawn as one of the part.

        A part of traces is told by their ids, so that all services take the same ones.

        >>> theirs = parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
        >>> Sampler(1.0).takes(theirs, drawn=True), Sampler(1.0, hears_parents=False).takes(theirs, drawn=False)
        (False, True)
        """
        if parent is None:
            return drawn
        if self.hears_parents:
            return parent.sampled
        return int(parent.trace[16:], 16) < round(self.ratio * 2**64)


def sampler(told: Mapping[str, str]) -> Sampler | None:
    """What `OTEL_TRACES_SAMPLER` and its `_ARG` in the environment say; None where they say nothing that is known here.

    Raises OutOfBounds for an `_ARG` that is no part.

    >>> sampler({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    Sampler(ratio=0.25, hears_parents=True)
    """
    name = told.get(SAMPLER, "").strip().lower()
    if not name:
        return None
    kind = name.removeprefix("parentbased_")
    if kind not in SAMPLERS:
        known = f"{', '.join(SAMPLERS)}, and parentbased_ of each"
        said = f"{SAMPLER}={name} is not taken, and nothing is traced without --trace-ratio; known: {known}"
        print(f"modelmill serve: {said}", file=sys.stderr, flush=True)
        return None
    ratio = SAMPLERS[kind]
    if ratio is None:
        given = told.get(f"{SAMPLER}_ARG", "").strip() or "1"
        try:
            ratio = float(given)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            raise OutOfBounds(f"{SAMPLER}_ARG", f"came {given!r}, expected a number from 0 to 1", "Try 0.1.")
    return Sampler(ratio, kind != name)


class OpenTelemetry:
    """Spans for a collector, in OpenTelemetry's own form; where they go, and by which name, is the environment's.

    A span is made when it has ended, whole, which costs a tenth of beginning and ending one.
    """

    def __init__(self, exporter: Any = None) -> None:
        try:
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError:
            raise MissingExtra.of("tracing", "OpenTelemetry", "otel") from None
        hush("opentelemetry", "traces")
        self._resource = Resource.create({"service.name": "modelmill"}).merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope("modelmill")
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            exporters = []
        else:
            exporters = _exporters() if exporter is None else [exporter]
        self._processors = [BatchSpanProcessor(each) for each in exporters]

    def ended(
        self, name: str, parent: Parent | None, at_ns: tuple[int, int], told: Mapping[str, Any], failed: bool
    ) -> None:
        """Make the span, and end it."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

        if not self._processors:
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
        for processor in self._processors:
            processor.on_end(span)

    def close(self) -> None:
        """Send what was not sent yet, as far as that takes no longer than the end may."""
        sending = threading.Thread(target=self._shut, name="modelmill-spans", daemon=True)
        sending.start()
        sending.join(CLOSING_S)

    def _shut(self) -> None:
        for processor in self._processors:
            processor.shutdown()


def _exporters() -> list[Any]:
    """Where spans go, as `OTEL_TRACES_EXPORTER` says; nowhere for `none`. Raises UnknownName, MissingExtra."""
    names = [name.strip().lower() for name in (os.environ.get(EXPORTER, "").strip() or "otlp").split(",")]
    for name in names:
        if name not in ("otlp", "console", "none"):
            raise UnknownName.among(EXPORTER, "exporter", name, ("otlp", "console", "none"))
    return [_console() if name == "console" else _otlp() for name in names if name != "none"]


def _console() -> Any:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stdout)


def _otlp() -> Any:
    """What sends to a collector, by the protocol that the environment names, of which HTTP's is the usual one."""
    where = next((name for name in PROTOCOLS if os.environ.get(name, "").strip()), PROTOCOLS[-1])
    protocol = os.environ.get(where, "").strip().lower() or "http/protobuf"
    if protocol not in EXPORTERS:
        raise UnknownName.among(where, "protocol", protocol, EXPORTERS)
    module, package = EXPORTERS[protocol]
    try:
        return importlib.import_module(module).OTLPSpanExporter()
    except ImportError:
        hint = f"Try: pip install {package}"
        raise MissingExtra(f"{where}={protocol}", f"{package} is not installed", hint) from None
