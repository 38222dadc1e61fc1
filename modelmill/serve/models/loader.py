"""Loads models on a few threads; who asks for what is being loaded already waits for the same result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from modelmill.errors import Draining, Overloaded

T = TypeVar("T")

MOST = 1024
"""Loads that may wait; further ones are refused."""


class Loader(Generic[T]):
    """The threads that load, and what they are at; one work at a time for one key."""

    def __init__(self, threads: int = 2) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="modelmill-load")
        self.lock = threading.Lock()
        self.under_way: dict[Hashable, Future[T]] = {}
        self.stopped = False

    def submit(self, key: Hashable, work: Callable[[], T]) -> Future[T]:
        """What `work` gives, or what the same work for that key gives which is under way."""
        with self.lock:
            future = self.under_way.get(key)
            if future is not None:
                return future
            if self.stopped:
                raise Draining("models", "are loaded no longer: the service is ending", "")
            if len(self.under_way) >= MOST:
                raise Overloaded("models", f"{MOST} models wait to be loaded already", "Try again in a second.")
            future = self.under_way[key] = self.pool.submit(work)
        future.add_done_callback(lambda _: self._forget(key))
        return future

    def _forget(self, key: Hashable) -> None:
        with self.lock:
            self.under_way.pop(key, None)

    def stop(self) -> None:
        """Begin to load nothing more, and wait for nothing: what is being loaded is finished."""
        with self.lock:
            self.stopped = True
        self.pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Load nothing more; what is being loaded is finished."""
        self.stop()
        self.pool.shutdown(wait=True, cancel_futures=True)
