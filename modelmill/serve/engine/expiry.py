"""When deadlines come: one timer for all jobs, since one for each would cost more than the rest of what is kept."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from modelmill.serve.engine.batch import Job

EARLY_S = 0.0005
"""Timers are as coarse as this: what ends within it has ended."""
FEWEST = 256
"""So many entries are kept before those of jobs that have ended are looked for."""


class Expiries:
    """The deadlines of jobs; all calls are made on one loop. Of a job that has ended the entry is kept, for a while.

    expire: called with every job whose deadline has come and that is not done. ns: the time.
    """

    def __init__(self, expire: Callable[[Job], None], ns: Callable[[], int]) -> None:
        self._expire = expire
        self._ns = ns
        self._heap: list[tuple[float, int, list[Job]]] = []
        self._most = FEWEST
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf
        """When the timer rings."""

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, job: Job, now: float) -> None:
        """Have a job end at its deadline, if it has one."""
        if job.deadline == math.inf:
            return
        job.held.append(job)
        heappush(self._heap, (job.deadline, job.number, job.held))
        if job.deadline < self._at:
            self._set(now)
        if len(self._heap) > self._most:
            self._heap = [entry for entry in self._heap if entry[2]]
            heapify(self._heap)
            self._most = max(FEWEST, 2 * len(self._heap))

    def close(self) -> None:
        """Forget all."""
        self._heap.clear()
        self._set(0.0)

    def _set(self, now: float) -> None:
        """Let the timer ring for what comes first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = self._heap[0][0] if self._heap else math.inf
        if self._heap:
            left_s = max(0.0, self._at - now)
            self._timer = asyncio.get_running_loop().call_later(left_s, self._ring)

    def _ring(self) -> None:
        self._timer, self._at = None, math.inf
        heap, now = self._heap, self._ns() / 1e9
        while heap and (not heap[0][2] or heap[0][0] <= now + EARLY_S):
            for job in heappop(heap)[2]:
                self._expire(job)
        self._set(now)
