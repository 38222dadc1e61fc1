"""Threads that take work from one queue: less lies between the loop and a run than with a pool of futures."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


NICE = 1
"""By so much the threads that compute stand back behind the loop, where all cores are wanted: what has come is read,
sorted and refused in time, and the next run lies ready. Other processes of the same control group gain as much."""


class Threads:
    """So many threads, started as work comes; each runs what is next, at a lower priority than the rest (Linux)."""

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self.name = name
        self.queue: SimpleQueue[Work | None] = SimpleQueue()
        self.threads: list[threading.Thread] = []

    def put(self, work: Work) -> None:
        """Run `work`, which raises nothing, on the next thread that is free."""
        self.queue.put(work)
        if len(self.threads) < self.count:
            thread = threading.Thread(target=self._work, name=f"{self.name}-{len(self.threads)}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End the threads when what was put has run."""
        for _ in self.threads:
            self.queue.put(None)
        for thread in self.threads:
            thread.join()
        self.threads.clear()

    def _work(self) -> None:
        stand_back()
        while (work := self.queue.get()) is not None:
            work()
            del work  # or the last run's arrays would live until the next


def stand_back() -> None:
    """Let this thread stand back behind the loop."""
    if sys.platform == "linux":  # elsewhere a process has one priority
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
