"""What is told of every answer: counted always, written to the log and traced where that is wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modelmill.serve.signals.figures import Figures, is_failure
from modelmill.serve.signals.journal import Journal
from modelmill.serve.signals.status import DEFAULT, Past, counts
from modelmill.serve.signals.trace import OpenTelemetry, Parent, Tracer


@dataclass(frozen=True)
class Telling:
    """How much the service tells of itself.

    log: the access log's file; None for standard error. log_ratio: the part of good answers in it. trace_ratio: the
    part of requests without a word of their caller that become spans; None traces nothing. objectives: by name, as
    `/api/status` measures against them.
    """

    log: Path | None = None
    log_ratio: float = 0.0
    trace_ratio: float | None = None
    objectives: Mapping[str, float] = field(default_factory=lambda: DEFAULT)


QUIET = Telling()


class Signals:
    """Everything that is told; it holds the figures, the log and where spans go."""

    def __init__(self, telling: Telling, folder: Path | None = None, worker: int = 0) -> None:
        self.telling = telling
        self.worker = worker
        self.figures = Figures(folder, worker)
        self.journal = Journal(telling.log, telling.log_ratio)
        self.tracer: Tracer | None = OpenTelemetry(telling.trace_ratio) if telling.trace_ratio is not None else None
        self.past = Past(time.time(), counts(self.figures.series()))

    @property
    def tells_traces(self) -> bool:
        """Whether anybody may want to know the trace of a request that went well."""
        return self.tracer is not None or self.telling.log_ratio > 0

    @contextmanager
    def encoding(self, model: str, version: str) -> Iterator[None]:
        """Time the phase in which an answer is put into bytes."""
        began = time.perf_counter()
        yield
        self.figures.of(model, version).encoded(time.perf_counter() - began)

    def answered(
        self,
        face: str,
        model: str,
        version: str,
        code: int,
        seconds: float,
        id: str | None = None,
        parent: Parent | None = None,
        sizes: tuple[int, int] = (0, 0),
        tenant: str = "",
    ) -> None:
        """Tell of an answer. What is not wanted costs no more than the question whether it is.

        sizes: the bytes of the request's body and of the answer's. tenant: whose key asked.
        """
        self.figures.of(model, version).answered(face, code, seconds)
        logged = self.journal.wants(code)
        traced = self.tracer is not None and self.tracer.wants(parent)
        if not logged and not traced:
            return
        told = {
            "face": face,
            "model": model,
            "version": version,
            "code": code,
            "milliseconds": round(1000 * seconds, 3),
            "id": id,
            "tenant": tenant,
            "bytes_in": sizes[0],
            "bytes_out": sizes[1],
        }
        found = {name: value for name, value in told.items() if value not in ("", None)}
        now_ns = time.time_ns()
        if logged:
            trace = {"trace": parent.trace} if parent is not None else {}
            self.journal.write({"at_ms": now_ns // 1_000_000, **found, **trace})
        if self.tracer is not None and traced:
            name = f"{face} {model}".strip()
            self.tracer.ended(name, parent, now_ns - round(seconds * 1e9), found, failed=is_failure(code))

    def close(self) -> None:
        """Write and send what is left."""
        self.figures.fold()
        self.journal.close()
        if self.tracer is not None:
            self.tracer.close()
