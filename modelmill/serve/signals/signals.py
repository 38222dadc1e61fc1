"""What is told of every answer: counted always, written to the log and traced where that is wanted.

Lines and spans are made a moment after the answer, several at a time: code that runs once in a while is slow each time.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelmill.serve.signals.answer import Answer
from modelmill.serve.signals.draw import Draw
from modelmill.serve.signals.figures import FOLD_S, Figures
from modelmill.serve.signals.journal import Journal
from modelmill.serve.signals.kinds import is_timed, since
from modelmill.serve.signals.past import Past
from modelmill.serve.signals.status import DEFAULT, counts, status
from modelmill.serve.signals.trace import OpenTelemetry, Sampler, Tracer, sampler
from modelmill.store.database import Database

KEPT_MOST = 64
"""So many answers at most wait to be written."""


@dataclass(frozen=True)
class Telling:
    """How much the service tells of itself.

    log: the access log's file; None for standard error. log_ratio: the part in it of answers that did not fail by our
    fault. trace_ratio: the part of requests without a word of their caller that become spans; None leaves it to
    OpenTelemetry's variables, without which nothing is traced. objectives: by name, as `/api/status` measures against
    them.
    """

    log: Path | None = None
    log_ratio: float = 0.0
    trace_ratio: float | None = None
    objectives: Mapping[str, float] = field(default_factory=lambda: DEFAULT)


QUIET = Telling()


class Signals:
    """Everything that is told; it holds the figures, the log and where spans go.

    folder: what the workers of one service share; None for a process that is alone. database: where what was counted
    outlives the service; None for nowhere.
    """

    def __init__(
        self, telling: Telling, folder: Path | None = None, worker: int = 0, database: Database | None = None
    ) -> None:
        self.telling = telling
        self.worker = worker
        self.figures = Figures(folder, worker)
        self.journal = Journal(telling.log)
        stated = sampler(os.environ) if telling.trace_ratio is None else Sampler(telling.trace_ratio)
        self.sampler = stated or Sampler(0.0)
        self.tracer: Tracer | None = OpenTelemetry() if stated is not None else None
        self._log, self._trace = telling.log_ratio, self.sampler.ratio
        self._either = 1 - (1 - self._log) * (1 - self._trace)
        self.draw = Draw(self._either)
        """Which answers are told of beside what is told of in any case: in the log, or as a span."""
        self._kept: list[tuple[Answer, int, bool, bool]] = []
        """What is to be written: an answer, when it was given, and whether for the log and as a span."""
        self._due = False
        """Whether it is going to be written."""
        self._lock = threading.Lock()
        self.past = Past(database, folder.name if folder is not None else secrets.token_hex(8))

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

    def answered(self, answer: Answer) -> None:
        """Count an answer and tell of it. What is not wanted costs no more than the question whether it is."""
        if answer.model and not is_timed(answer.code):
            self.figures.set_aside(answer.seconds, answer.over_quota)
        self.figures.of(answer.model, answer.version).answered(answer.face, answer.code, answer.seconds)
        drawn = self.draw.hits()
        if drawn or answer.parent is not None or answer.failed:
            self.tell(answer, drawn)

    def tell(self, answer: Answer, drawn: bool) -> None:
        """Have an answer written to the log and made a span, as is wanted. drawn: whether `draw` hit it."""
        logged, traced = self._which() if drawn else (False, False)
        traced = self.tracer is not None and self.sampler.takes(answer.parent, traced)
        if logged or traced or answer.failed:
            self._kept.append((answer, time.time_ns(), logged or answer.failed, traced))
            self._soon()

    def _soon(self) -> None:
        """Write a moment later; now, where much is kept already, or where there is no loop to do so."""
        if len(self._kept) >= KEPT_MOST:
            self.write()
        elif not self._due:
            try:
                asyncio.get_running_loop().call_later(FOLD_S, self.write)
                self._due = True
            except RuntimeError:
                self.write()

    def write(self) -> None:
        """Write what was kept, and make spans of it."""
        self._due = False
        with self._lock:
            kept, self._kept = self._kept, []
        lines = []
        for answer, at_ns, logged, traced in kept:
            told, parent = answer.told(), answer.parent
            if logged:
                trace = {"trace": parent.trace} if parent is not None else {}
                lines.append({"at_ms": at_ns // 1_000_000, **told, **trace})
            if self.tracer is not None and traced:
                name, began_ns = f"{answer.face} {answer.model}".strip(), at_ns - round(answer.seconds * 1e9)
                self.tracer.ended(name, parent, (began_ns, at_ns), told, answer.failed)
        if lines:
            self.journal.write(lines)

    def _which(self) -> tuple[bool, bool]:
        """Whether what was drawn for either is for the log, and whether it becomes a span: each by itself."""
        logged = random.random() * self._either < self._log
        return logged, not logged or random.random() < self._trace

    def keep(self) -> None:
        """Write down what was counted, for those who come after; it waits for the database."""
        self.past.keep(time.time(), counts(self.figures.series()))

    def status(self) -> dict[str, Any]:
        """How well the service does against what was stated; it waits for the database."""
        now_s, series = time.time(), self.figures.series()
        return status(self.past.windows(now_s, counts(series)), now_s - since(series), self.telling.objectives)

    def reopen(self) -> None:
        """Write to a new file of the log's name, after the present one was moved away, what is told from now on."""
        self.write()
        self.journal.reopen()

    def close(self) -> None:
        """Write and send what is left."""
        self.figures.fold()
        self.write()
        self.journal.close()
        if self.tracer is not None:
            self.tracer.close()
