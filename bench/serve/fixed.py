"""The usual policy for batches, to compare with: a fixed size and a fixed window, with the face of the engine.

What comes waits until so many rows are there, or the oldest has waited so long; then it runs, first come, first served.
It is given what a good server has beside: what has expired in the queue is dropped, cheap models run on the loop where
the window is 0, and as many runs go on at a time as there are cores.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from modelmill.errors import DeadlineExceeded
from modelmill.runtime.session import Stop
from modelmill.serve.engine import batch
from modelmill.serve.engine.batch import Job, Run
from modelmill.serve.engine.engine import Capacity, cores, perform
from modelmill.serve.engine.terms import DEFAULT_TERMS, Terms
from modelmill.serve.engine.threads import Threads
from modelmill.serve.engine.turns import Turns


class FixedWindow:
    """Runs lanes by a fixed size and window; it holds the threads and who waits."""

    def __init__(
        self, size: int, window_ms: float, threads: int = 0, ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.capacity = Capacity(threads, size)
        self.size = size
        self.window_ms = window_ms
        self.threads = threads or cores()
        self.pool = Threads(self.threads, "fixed")
        self.ns = ns
        self.turns = Turns()
        self.running = 0
        self.queues: dict[object, deque[Job]] = {}

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(len(queue) for queue in self.queues.values())

    def fits_inline(self, lane, rows: int, columns=None) -> bool:
        """Whether it is run on the loop."""
        return self.window_ms == 0 and rows <= lane.inline_rows

    def run_inline(self, lane, columns, rows: int, outputs, terms: Terms = DEFAULT_TERMS):
        """The outputs, at once."""
        return lane.session.run(columns, outputs)

    def submit(self, lane, columns, rows: int, outputs, terms: Terms = DEFAULT_TERMS) -> asyncio.Future:
        """A future with the outputs."""
        loop = asyncio.get_running_loop()
        job = Job(columns, rows, outputs, loop.create_future(), None, lane, lane.bucket(columns), terms.deadline)
        job.arrived_ns = self.ns()
        batch.cut(job, max(1, rows))
        self.queues.setdefault(lane, deque()).append(job)
        self._dispatch()
        return job.future

    def close(self) -> None:
        """Let go of the threads."""
        self.pool.close()

    def _dispatch(self) -> None:
        for lane, queue in self.queues.items():
            while queue and self.running < self.threads:
                now_ns = self.ns()
                while queue and (queue[0].is_done or queue[0].deadline <= now_ns / 1e9):
                    job = queue.popleft()
                    if not job.is_done:
                        job.future.set_exception(DeadlineExceeded("timeout", "has passed", ""))
                if not queue:
                    break
                full = sum(job.rows for job in queue) >= self.size if len(queue) < self.size else True
                left_ms = self.window_ms - (now_ns - queue[0].arrived_ns) / 1e6
                if not full and left_ms > 0:
                    asyncio.get_running_loop().call_later(max(left_ms, 0.1) / 1000, self._dispatch)
                    break
                self._start(lane, queue)

    def _start(self, lane, queue: deque[Job]) -> None:
        chosen, rows = [queue.popleft()], 0
        rows = chosen[0].rows
        while queue and rows + queue[0].rows <= self.size:
            job = queue.popleft()
            if not job.is_done:
                chosen.append(job)
                rows += job.rows
        pieces = [job.pieces[0] for job in chosen]
        run = Run(lane.session, pieces, Stop(), rows, 0.0, set(chosen), self.ns)
        self.running += 1
        self.pool.put(partial(perform, run, asyncio.get_running_loop(), partial(self._finish, run)))

    def _finish(self, run: Run) -> None:
        self.running -= 1
        for piece, answer in zip(run.pieces, run.answers, strict=True):
            if piece.job.is_done:
                continue
            if isinstance(answer, BaseException):
                piece.job.future.set_exception(answer)
            else:
                piece.job.future.set_result(answer)
        self._dispatch()
