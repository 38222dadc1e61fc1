"""Runs copies of requests on both versions, one after the other, when there is time for it, and tells what they say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np

from modelmill.runtime.session import Stop
from modelmill.serve.engine.pace import Runs
from modelmill.serve.traffic.pair import Pair, Run, compare

Array = np.ndarray[Any, Any]

WAITING = 4
"""Copies that may wait for the one that runs; further ones are dropped."""

SHARE = 0.25
"""What part of one core copies may take, over a few seconds."""

SAVED_S = 1.0
"""Time that may be saved up for copies while there are none."""

COPY_SECONDS = 30.0
"""A copy that takes longer is stopped, which counts as a failure of the version that was running."""

SHORT_SECONDS = 0.005
"""A run below this is done twice."""

BUSY = 0.7
"""From this part of its time on, the loop is too busy to be kept waiting by copies."""


class Purse:
    """Time that copies may take: it fills with the clock, and is spent by what ran."""

    def __init__(self, now: float) -> None:
        self.saved_s = SAVED_S
        self.counted_s = now

    def has(self, now: float) -> bool:
        """Whether anything is left at this time."""
        self.saved_s = min(SAVED_S, self.saved_s + (now - self.counted_s) * SHARE)
        self.counted_s = now
        return self.saved_s > 0

    def spend(self, seconds: float) -> None:
        """Take out what a copy took, even where that was more than there was."""
        self.saved_s -= seconds


class Load(Protocol):
    """Whether the engine has anything better to do."""

    running: int
    threads: int

    @property
    def waiting(self) -> int:
        """How many requests wait."""


@dataclass(frozen=True)
class Copy:
    """A request to be run again: its columns, how many rows they hold, and the outputs that were asked for."""

    columns: Mapping[str, Array]
    rows: int
    names: tuple[str, ...]


class Mirror:
    """One thread that runs copies; it keeps account of the time that they take. Its calls are made on one loop.

    A copy never delays a request: it runs after the answer is there, only while no request waits for the engine and the
    loop has time to spare, and within a quarter of one core. Both versions run on the same thread, in an order that is
    drawn, so that whatever troubles the machine troubles both.
    """

    def __init__(self, load: Load, random: Random) -> None:
        self.load = load
        self.random = random
        self.pool: ThreadPoolExecutor | None = None
        self.waiting = 0
        self.closed = False
        self.stops: set[Stop] = set()
        """Of the copy that runs, and of those that wait."""
        self.purse = Purse(time.monotonic())
        self.looked: tuple[float, float] = (time.monotonic(), time.thread_time())
        self.busy = 0.0

    def has_time(self) -> bool:
        """Whether another copy may be taken now."""
        now = time.monotonic()
        self._look(now)
        idle = self.load.running < self.load.threads and not self.load.waiting and self.busy < BUSY
        return self.purse.has(now) and idle and self.waiting < WAITING

    def take(self, copy: Copy, live: Runs, candidate: Runs, near: float, done: Callable[[Pair], None]) -> None:
        """Run a copy on both versions, soon, and hand what they say to `done` on this loop."""
        if self.pool is None:
            self.pool = ThreadPoolExecutor(1, thread_name_prefix="modelmill-mirror")
        self.waiting += 1
        stop = Stop()
        self.stops.add(stop)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(COPY_SECONDS * self.waiting, stop.now)
        first_is_live = self.random.random() < 0.5
        run = loop.run_in_executor(self.pool, both, copy, live, candidate, first_is_live, near, stop)

        def finish(finished: asyncio.Future[Pair]) -> None:
            timer.cancel()
            self.stops.discard(stop)
            self._finish(finished, done)

        run.add_done_callback(finish)

    def close(self) -> None:
        """Let go of the thread: the copy that runs is stopped, and those that wait are forgotten."""
        self.closed = True
        for stop in self.stops:
            stop.now()
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def _finish(self, finished: asyncio.Future[Pair], done: Callable[[Pair], None]) -> None:
        self.waiting -= 1
        if finished.cancelled() or self.closed:
            return
        pair = finished.result()
        for seconds in (pair.live_seconds, pair.candidate_seconds):
            self.purse.spend(seconds * (2 if seconds < SHORT_SECONDS else 1))
        done(pair)

    def _look(self, now: float) -> None:
        """How busy the loop was over the last moments; asked on the loop's own thread."""
        since, used = self.looked
        if now - since >= 0.05:
            spent = time.thread_time()
            self.busy = (spent - used) / (now - since)
            self.looked = (now, spent)


def both(copy: Copy, live: Runs, candidate: Runs, first_is_live: bool, near: float, stop: Stop) -> Pair:
    """What both versions make of a copy, run in the given order."""
    order = (live, candidate) if first_is_live else (candidate, live)
    runs = [run(session, copy, stop) for session in order]
    if not first_is_live:
        runs.reverse()
    return compare(runs[0], runs[1], copy.rows, near)


def run(session: Runs, copy: Copy, stop: Stop) -> Run:
    """What a version gives for a copy, and how long it takes; a short run is timed the second time.

    The live version answers all the while, and lies in the processor's caches; the candidate does not. In a run of a
    quarter of a millisecond that is a third of the time, and says nothing of the version.
    """
    found = _once(session, copy, stop)
    return _once(session, copy, stop) if found.seconds < SHORT_SECONDS and found.outputs is not None else found


def _once(session: Runs, copy: Copy, stop: Stop) -> Run:
    started = time.perf_counter()
    try:
        outputs = session.run(copy.columns, copy.names, stop)
    except Exception:  # noqa: BLE001 - whatever it is, the version did not answer
        return Run(None, time.perf_counter() - started)
    return Run(outputs, time.perf_counter() - started)
