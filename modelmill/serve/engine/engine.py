"""The engine runs models: on the loop where that is cheaper than a thread, else on threads, batching what waits."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import numpy as np

from modelmill.errors import MillError, ModelError, Overloaded
from modelmill.serve.engine import batch
from modelmill.serve.engine.batch import Job
from modelmill.serve.engine.terms import DEFAULT_TERMS, Terms

Array = np.ndarray[Any, Any]

INLINE_MS = 0.3
"""What may run on the loop: a hop to a thread and back costs a third of this, and others wait no longer than this."""


class Runs(Protocol):
    """What an engine runs: a session."""

    def run(self, columns: Mapping[str, Array], outputs: tuple[str, ...] | None = None) -> dict[str, Array]:
        """The outputs for the columns."""


@dataclass(frozen=True)
class Pace:
    """How long a run takes, as measured when the model was loaded."""

    start_ms: float
    row_ms: float

    def of(self, rows: int) -> float:
        """Milliseconds for so many rows.

        >>> Pace(0.1, 0.01).of(10)
        0.2
        """
        return self.start_ms + self.row_ms * rows


@dataclass(eq=False)
class Lane:
    """The place of one model in the engine: its session and who waits for it."""

    session: Runs
    pace: Pace
    batches: bool
    """Whether rows of several requests may share a run: the rows' axis is variable everywhere."""
    record: Callable[[int], None]
    """Told the rows of every run."""
    waiting: deque[Job] = field(default_factory=deque)


@dataclass(frozen=True)
class Capacity:
    """How much the engine takes on."""

    threads: int = 0
    """Runs at a time; 0 is one a core."""
    batch_rows: int = 64
    """The most rows that waiting requests are joined to."""
    waiting: int = 256
    """Requests that may wait; further ones are refused."""


DEFAULT = Capacity()


class Engine:
    """Runs lanes; it holds the threads and who waits. All its calls are made on one loop."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.threads = capacity.threads or cores()
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="modelmill-run")
        self.running = 0
        self.lanes: deque[Lane] = deque()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(len(lane.waiting) for lane in self.lanes)

    def fits_inline(self, lane: Lane, rows: int) -> bool:
        """Whether so many rows are answered sooner here than on a thread."""
        return lane.batches and lane.pace.of(rows) <= INLINE_MS

    def run_inline(
        self, lane: Lane, columns: Mapping[str, Array], rows: int, outputs: tuple[str, ...]
    ) -> dict[str, Array]:
        """The outputs, at once."""
        lane.record(rows)
        return lane.session.run(columns, outputs)

    def submit(
        self,
        lane: Lane,
        columns: Mapping[str, Array],
        rows: int,
        outputs: tuple[str, ...],
        terms: Terms = DEFAULT_TERMS,
    ) -> asyncio.Future[dict[str, Array]]:
        """A future with the outputs; cancel it to give up. Raises Overloaded when too many wait."""
        if self.running >= self.threads and self.waiting >= self.capacity.waiting:
            raise Overloaded("engine", f"{self.capacity.waiting} requests wait already", "Try again in a second.")
        loop = asyncio.get_running_loop()
        job = Job(columns, rows, outputs, loop.create_future())
        lane.waiting.append(job)
        if lane not in self.lanes:
            self.lanes.append(lane)
        self._dispatch()
        return job.future

    def close(self) -> None:
        """Let go of the threads when their runs have ended."""
        self.pool.shutdown(wait=True)

    def _dispatch(self) -> None:
        """Start runs while a thread is free, the lanes in turn."""
        while self.running < self.threads and self.lanes:
            lane = self.lanes.popleft()
            jobs = batch.take(lane.waiting, self.capacity.batch_rows if lane.batches else 0)
            if lane.waiting:
                self.lanes.append(lane)
            if jobs:
                self._start(lane, jobs)

    def _start(self, lane: Lane, jobs: list[Job]) -> None:
        self.running += 1
        lane.record(sum(job.rows for job in jobs))
        run = asyncio.get_running_loop().run_in_executor(self.pool, execute, lane.session, jobs)
        run.add_done_callback(lambda done: self._finish(jobs, done))

    def _finish(self, jobs: list[Job], done: asyncio.Future[list[dict[str, Array] | BaseException]]) -> None:
        self.running -= 1
        failure = asyncio.CancelledError() if done.cancelled() else done.exception()
        answers = [failure] * len(jobs) if failure is not None else done.result()
        for job, answer in zip(jobs, answers, strict=True):
            if job.future.done():
                continue
            if isinstance(answer, BaseException):
                job.future.set_exception(answer)
            else:
                job.future.set_result(answer)
        self._dispatch()


def execute(session: Runs, jobs: list[Job]) -> list[dict[str, Array] | BaseException]:
    """Answer jobs in one run; if that fails, each alone, so that one bad request spoils no other."""
    try:
        outputs = session.run(batch.join(jobs), batch.names(jobs))
        if len(jobs) > 1:
            _check_rows(outputs, sum(job.rows for job in jobs))
            return [*batch.split(outputs, jobs)]
        return [outputs]
    except MillError as error:
        if len(jobs) == 1:
            return [error]
    return [answer for job in jobs for answer in execute(session, [job])]


def _check_rows(outputs: Mapping[str, Array], rows: int) -> None:
    """Only outputs with a row for every row of input can be taken apart."""
    for name, array in outputs.items():
        if len(array) != rows:
            raise ModelError("engine", f"output {name} has {len(array)} rows for {rows}", "")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(session: Runs, columns: Mapping[str, Array], batches: bool) -> Pace:
    """Time a session on one example row, and on sixteen of them; the first runs warm it up."""
    one_ms = _time(session, columns)
    if not batches:
        return Pace(one_ms, 0.0)
    many_ms = _time(session, {name: np.repeat(column, 16, axis=0) for name, column in columns.items()})
    row_ms = max(0.0, (many_ms - one_ms) / 15)
    return Pace(max(0.0, one_ms - row_ms), row_ms)


def _time(session: Runs, columns: Mapping[str, Array]) -> float:
    """Median milliseconds of a run; models that take long are run fewer times."""
    session.run(columns)
    times: list[float] = []
    while len(times) < 9 and sum(times) < 20:
        start = time.perf_counter()
        session.run(columns)
        times.append((time.perf_counter() - start) * 1000)
    return median(times)
