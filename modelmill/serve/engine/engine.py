"""The engine runs models: on the loop where that is cheaper than a thread, else on threads, batching what waits."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from modelmill.errors import DeadlineExceeded, Draining, Overloaded
from modelmill.runtime.session import Stop
from modelmill.serve.engine import batch
from modelmill.serve.engine.batch import Given, Job, Outputs, Piece, Run
from modelmill.serve.engine.company import gather, must_give_way
from modelmill.serve.engine.expiry import Expiries
from modelmill.serve.engine.forecast import forecast, least_ms, quick
from modelmill.serve.engine.lane import HOP_MS, Bucket, Lane
from modelmill.serve.engine.pace import Pace, Runs, measure
from modelmill.serve.engine.payer import Payer
from modelmill.serve.engine.shares import Shares
from modelmill.serve.engine.terms import DEFAULT_TERMS, Terms
from modelmill.serve.engine.threads import Threads
from modelmill.serve.engine.turns import Turns

__all__ = ["DEFAULT", "Capacity", "Engine", "Lane", "Pace", "Runs", "cores", "measure"]

Array = np.ndarray[Any, Any]

PATIENCE_S = 1.0
"""What has no deadline is sorted as if it had this one, so that nothing overtakes it for ever."""
FRESH_S = 5.0
"""How long a model's pace is held against requests: what was slow an hour ago is tried again."""
SLOW_NS = 600_000
SLOW_RUNS = 5
"""Runs on the loop that took longer than that are learned from, once so many came one after the other: to learn from
every run would cost more than it brings, and one that was held up says nothing of the model."""
AHEAD_MS = 5.0
"""Runs that take so long are not handed to the threads before one is free: what is more urgent may still come."""
PASSED = "had passed before the run"
AGAIN = "Try again after the time that the answer tells, or allow more time."
MOMENT_S = 0.0002
"""So long it is remembered how much is under way."""
FEWEST_MS = 1.0
"""Waits shorter than this are not worth a timer."""


@dataclass(frozen=True)
class Capacity:
    """How much the engine takes on."""

    threads: int = 0
    """Runs at a time; 0 is one a core."""
    batch_rows: int = 1024
    """The most rows that waiting requests are joined to."""
    waiting: int = 8192
    """Requests of one payer that may wait; further ones are refused."""
    queue_seconds: float = 10.0
    """How long a request without a deadline may have to wait, as predicted; what would wait longer is refused."""


DEFAULT = Capacity()


class Engine:
    """Runs lanes; it holds the threads and who waits. All its calls are made on one loop.

    ns: the time in nanoseconds, from which everything here is measured; the loop's clock is the same one, but coarse
    with some loops.
    """

    def __init__(self, capacity: Capacity = DEFAULT, ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.capacity = capacity
        self.ns = ns
        self.threads = capacity.threads or cores()
        self.ahead = max(1, self.threads // 2)
        """How many runs may wait for a thread."""
        self.pool = Threads(self.threads, "modelmill-run")
        self.shares = Shares()
        self.turns = Turns()
        self.expiries = Expiries(self._expire, ns)
        self.runs: set[Run] = set()
        self.running = 0
        """How many runs are under way."""
        self.waiting = 0
        """How many requests wait, wholly or in part."""
        self.number = 0
        self.under_way = (-math.inf, 0.0)
        """When it was worked out how many milliseconds the runs under way will still take, and that."""
        self.alarm: asyncio.TimerHandle | None = None
        self.has_run = False
        """Whether a run that would be worth a thread was made on the loop since it last looked for what has come."""

    def fits_inline(self, lane: Lane, rows: int, columns: Mapping[str, Array] | None = None) -> bool:
        """Whether so many rows are answered sooner here than on a thread.

        Of a model that leaves sizes beside the rows open, that is known only for the columns themselves. What takes as
        long as a hop to a thread is run here one at a time: where more has come meanwhile, the other cores are wanted,
        and what waits should wait where it is seen. But it never waits for what takes longer than itself.
        """
        at = lane.of(columns) if lane.open else lane
        if at is None or rows > at.inline_rows:
            return False
        if rows <= at.light_rows or self.waiting > lane.waiting:
            return True
        return not (lane.waiting or (self.has_run and (self.running < self.threads or lane.running)))

    def run_inline(
        self,
        lane: Lane,
        columns: Mapping[str, Array],
        rows: int,
        outputs: tuple[str, ...],
        terms: Terms = DEFAULT_TERMS,
    ) -> Outputs:
        """The outputs, at once. Raises DeadlineExceeded where they are of no use any more, ModelError."""
        if terms is not DEFAULT_TERMS and terms.deadline <= self.ns() / 1e9:
            raise late(PASSED)
        at = lane.of(columns) if lane.open else lane
        if not self.has_run and (at is None or rows > at.light_rows):
            self.has_run = True
            asyncio.get_running_loop().call_soon(self._look)
        began = self.ns()
        answer = lane.session.run(columns, outputs)
        ns = self.ns() - began
        meter = lane.meter
        if meter is not None:
            if rows == 1:
                meter.ran_one(ns)
            else:
                meter.ran(rows, 0, ns, 0)
        if ns <= SLOW_NS:
            lane.slow = 0
            return answer
        lane.slow += 1
        if lane.slow >= SLOW_RUNS:
            lane.learn(lane.bucket(columns), rows, ns / 1e6, self.ns() / 1e9)
        return answer

    def submit(
        self,
        lane: Lane,
        columns: Mapping[str, Array],
        rows: int,
        outputs: tuple[str, ...],
        terms: Terms = DEFAULT_TERMS,
    ) -> asyncio.Future[Outputs]:
        """A future with the outputs; cancel it to give up.

        Raises Overloaded where the answer would come too late, or too many wait; DeadlineExceeded where it is late
        already. The future raises DeadlineExceeded at the deadline, and ModelError.
        """
        arrived_ns = self.ns()
        now = arrived_ns / 1e9
        payer = self.shares.payer(terms.payer, terms.share)
        bucket = lane.bucket(columns)
        level = terms.priority or math.inf
        future = Given(loop=asyncio.get_running_loop())
        job = Job(columns, rows, outputs, future, payer, lane, bucket, terms.deadline, level)
        job.due = min(terms.deadline, now + PATIENCE_S)
        job.number = self.number = self.number + 1
        job.arrived_ns = arrived_ns
        bucket.arrivals.append(now)
        self._admit(job, now)
        step_s = bucket.fit.of(bucket.most) / 1000 / self.threads if job.deadline == math.inf else 0.0
        batch.cut(job, bucket.most if lane.batches else max(1, rows), step_s)
        self.shares.add(payer, bucket, job.pieces)
        self.waiting += 1
        lane.waiting += 1
        self.expiries.add(job, now)
        future.given_up = partial(self._left, job)
        self._dispatch()
        return future

    def _look(self) -> None:
        """The loop is about to look for what has come."""
        self.has_run = False

    def close(self) -> None:
        """End: what waits is refused, what runs is stopped, and the threads are let go."""
        if self.alarm is not None:
            self.alarm.cancel()
        self.refuse()
        self.expiries.close()
        self.pool.close()

    def refuse(self) -> None:
        """Refuse what waits, and stop what runs."""
        left = {piece.job for line in self.shares.lines() for piece in line.pieces}
        for job in left.union(*(run.jobs for run in self.runs)):
            self._end(job, Draining("service", "has ended before the answer", "Send the request to another instance."))

    def _admit(self, job: Job, now: float) -> None:
        """Refuse on arrival what cannot be met; what a free thread can take at once is always tried."""
        if job.deadline <= now:
            raise late(PASSED)
        left_ms = (job.deadline - now) * 1000
        free = self.running < self.threads and not self.waiting
        waiting = job.payer.waiting
        if waiting < self.capacity.waiting and self._is_soon(job, left_ms, free, now):
            job.foretold = not free and left_ms < math.inf
            return
        fresh = left_ms < math.inf and now - job.bucket.fit.seen_at < FRESH_S
        if fresh and least_ms(job, self.threads) > left_ms:
            raise late(f"of {left_ms:.1f} ms is less than the model takes for {job.rows} rows")
        if free:
            return
        told = forecast(job, self.shares, self._under_way_ms(now), self.threads)
        if waiting >= self.capacity.waiting:
            raise Overloaded("engine", f"{waiting} requests wait already", AGAIN, told.wait_ms / 1000 / max(1, waiting))
        if job.deadline == math.inf:
            late_ms = told.wait_ms - self.capacity.queue_seconds * 1000
            if late_ms > 0:
                said = f"work for {told.wait_ms / 1000:.1f} seconds waits already"
                raise Overloaded("engine", said, AGAIN, late_ms / 1000)
            return
        total_ms = told.total_ms * job.bucket.misses.factor(now)
        if total_ms > left_ms:
            said = f"the answer would take {total_ms:.1f} ms, {left_ms:.1f} are allowed"
            raise Overloaded("engine", said, AGAIN, (total_ms - left_ms) / 1000)
        job.foretold = True

    def _is_soon(self, job: Job, left_ms: float, free: bool, now: float) -> bool:
        """Whether a job is in time even if all that waits goes before it: then no forecast is needed."""
        bucket = job.bucket
        before_ms = 0.0
        if not free:
            waits_ms = sum([line.work_ms for line in self.shares.lines()])
            before_ms = (self._under_way_ms(now) + waits_ms) / self.threads
        if left_ms == math.inf:
            return before_ms <= self.capacity.queue_seconds * 1000
        return job.rows <= bucket.enough and (before_ms + bucket.longest_ms) * bucket.misses.factor(now) <= left_ms

    def _under_way_ms(self, now: float) -> float:
        """How long the runs under way will still take, in all; it was so a moment ago, if none began or ended since."""
        at, left_ms = self.under_way
        if now - at > MOMENT_S:
            left_ms = sum(run.left_ms(now) for run in self.runs)
            self.under_way = (now, left_ms)
        return left_ms

    def _dispatch(self) -> None:
        """Start runs while a thread is free, and hand on what it may take next."""
        while self.running < self.threads + self.ahead:
            payer = self.shares.next()
            if payer is None:
                return
            now = self.ns() / 1e9
            piece = self.shares.choose(payer)
            bucket = piece.job.bucket
            if self.running >= self.threads and not self._is_next(bucket):
                return
            if piece.job.is_done:
                self._end(piece.job, None)
                continue
            if self._is_hopeless(piece, bucket, now):
                self._end(piece.job, late("leaves too little for the run"))
                continue
            chosen, rows = gather(piece, self.shares, self.capacity.batch_rows, now)
            if self.running >= self.threads and bucket.batches and rows < bucket.enough:
                return
            if must_give_way(chosen, rows, self.shares, self.capacity.batch_rows, now):
                self._end(piece.job, late("leaves no room for the others that wait"))
                continue
            if self._should_wait(chosen, rows, bucket, now):
                return
            self._start(bucket, chosen, rows, payer, now)

    def _is_hopeless(self, piece: Piece, bucket: Bucket, now: float) -> bool:
        """Whether a piece cannot be answered in time even if the run is a quick one."""
        left_ms = (piece.job.deadline - now) * 1000
        if left_ms <= 0:
            return True
        fit = bucket.fit
        if left_ms == math.inf or self.waiting == 1 or now - fit.seen_at > FRESH_S:
            return False
        return fit.of(piece.rows) * quick(bucket) > left_ms

    def _is_next(self, bucket: Bucket) -> bool:
        """Whether a run is handed to the threads before one of them is free: a short one, to which nothing is joined.

        Between two short runs a thread would be idle for a good part of the time in which the loop hears of the first
        and hands on the second.
        """
        if not bucket.batches:
            return bucket.fit.of(1) < AHEAD_MS
        waits = sum(line.rows for line in self.shares.buckets[bucket].values())
        return waits >= bucket.enough and bucket.fit.of(bucket.enough) < AHEAD_MS

    def _should_wait(self, chosen: list[Piece], rows: int, bucket: Bucket, now: float) -> bool:
        """Whether to wait for the next request, on the last free thread, when it is expected soon.

        To let the next row, due in w ms, join k rows saves it the rest of this run and a start; it costs the k rows w,
        and the time of one row more. With runs of s + r * rows ms that pays, in the sum of all waiting, where
        s > r * k + w * (k + 1). It is never longer than s in all, and never where a deadline could be missed.
        """
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        fit = bucket.fit
        start_ms = fit.start_ms + HOP_MS
        gap_ms = max(bucket.gap_ms(now), FEWEST_MS)
        if not (bucket.batches and start_ms > fit.row_ms * rows + gap_ms * (rows + 1)):
            return False
        if not fit.is_known or self.running + 1 < self.threads or len(chosen) != self.waiting or rows >= bucket.enough:
            return False
        waited_ms = (self.ns() - chosen[0].job.arrived_ns) / 1e6
        if waited_ms + gap_ms > start_ms:
            return False
        soonest = min(piece.job.deadline for piece in chosen)
        if now + (2 * gap_ms + fit.of(rows + 1) * (1 + 2 * fit.spread) + HOP_MS) / 1000 > soonest:
            return False
        self.alarm = asyncio.get_running_loop().call_later(2 * gap_ms / 1000, self._wake)
        return True

    def _wake(self) -> None:
        """Nobody came: run what waits."""
        self.alarm = None
        self._dispatch()

    def _start(self, bucket: Bucket, chosen: list[Piece], rows: int, payer: Payer, now: float) -> None:
        lane = chosen[0].job.lane
        expected_ms = bucket.fit.of(rows) + HOP_MS
        run = Run(lane.session, chosen, Stop(), rows, expected_ms, {piece.job for piece in chosen}, self.ns)
        run.latest = max(job.deadline for job in run.jobs)
        self.shares.now_ms = payer.clock_ms
        payer.turns += 1
        for piece in chosen:
            job = piece.job
            self.shares.charge(job.payer, expected_ms * piece.rows / max(1, rows))
            self.shares.remove(piece)
            if not job.waits:
                self._begins(job)
            job.runs.add(run)
        self.runs.add(run)
        self.under_way = (-math.inf, 0.0)
        self.running += 1
        lane.running += 1
        self.pool.put(partial(perform, run, asyncio.get_running_loop(), partial(self._finish, run, bucket)))

    def _begins(self, job: Job) -> None:
        """A job waits no longer."""
        self.waiting -= 1
        job.lane.waiting -= 1

    def _finish(self, run: Run, bucket: Bucket) -> None:
        """Hand out what a run has brought, and start the next."""
        self.runs.discard(run)
        self.under_way = (-math.inf, 0.0)
        self.running -= 1
        run.pieces[0].job.lane.running -= 1
        now = self.ns() / 1e9
        failed = run.repeated or any(isinstance(answer, BaseException) for answer in run.answers)
        if not failed:
            self._count(run, bucket, now)
        elif run.stop.said:
            # It would have taken longer still. Were that not learned, no run of a machine that has become slow would
            # ever be finished: each would be begun too late, and stopped.
            took_ms = (now * 1e9 - run.began_ns) / 1e6 - HOP_MS
            if took_ms > bucket.fit.of(run.rows) and run.session is run.pieces[0].job.lane.session:
                run.pieces[0].job.lane.learn(bucket, run.rows, took_ms, now)
        for piece, answer in zip(run.pieces, run.answers, strict=True):
            job = piece.job
            job.runs.discard(run)
            job.begun_ns = min(job.begun_ns, run.began_ns)
            if job.is_done:
                continue
            if isinstance(answer, BaseException):
                self._end(job, answer)
                continue
            job.answers[piece.index] = answer
            if all(part is not None for part in job.answers):
                self._answer(job, now)
        run.answers = []
        self._dispatch()

    def _count(self, run: Run, bucket: Bucket, now: float) -> None:
        """Count a run, learn from it, and correct what its rows were charged."""
        lane = run.pieces[0].job.lane
        took_ms = sum(run.phases_ns) / 1e6
        meter = lane.meter
        if meter is not None:
            meter.ran(run.rows, *run.phases_ns)
        if run.session is lane.session:
            lane.learn(bucket, run.rows, took_ms, now)
        off_ms = took_ms + HOP_MS - run.expected_ms
        for piece in run.pieces:
            self.shares.charge(piece.job.payer, off_ms * piece.rows / max(1, run.rows))

    def _answer(self, job: Job, now: float) -> None:
        if now > job.deadline:
            self._end(job, late("has passed"))
            return
        job.bucket.misses.saw(False, now)
        meter = job.lane.meter
        if meter is not None:
            meter.waited(round(job.begun_ns) - job.arrived_ns, job.rows)
        job.let_go()
        job.future.set_result(batch.whole(job.answers))

    def _expire(self, job: Job) -> None:
        """The deadline has come."""
        if not job.is_done:
            self._end(job, late("has passed"))
            self._dispatch()

    def _left(self, job: Job) -> None:
        """The client has left."""
        self._end(job, None)
        self._dispatch()

    def _end(self, job: Job, error: BaseException | None) -> None:
        """Take a job out wherever it is, and stop the runs that nobody else shares."""
        if job.ended:
            return
        job.ended = True
        if job.foretold and isinstance(error, DeadlineExceeded):
            job.bucket.misses.saw(True, self.ns() / 1e9)
        if job.waits:
            self._begins(job)
            for piece in job.pieces:
                self.shares.remove(piece)
        for run in job.runs:
            run.jobs.discard(job)
            if not run.jobs:
                run.stop.now()
        job.let_go()
        if error is not None and not job.is_done:
            job.future.set_exception(error)
            job.future.exception()  # who does not ask for it has left, which is no news for the log


def perform(run: Run, loop: asyncio.AbstractEventLoop, finish: Callable[[], None]) -> None:
    """Run on this thread, and tell the loop, if it is still there."""
    run.execute()
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(finish)


def late(said: str) -> DeadlineExceeded:
    """The answer to a request whose deadline has passed, or will before it can be met."""
    return DeadlineExceeded("timeout", said, "Allow more time, or send fewer rows.")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
