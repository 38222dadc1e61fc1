"""Meters: how much of a quota is used, in a piece of memory that the processes of one service share.

A meter is two counts: the time until which what was admitted is paid for (the generic cell rate algorithm: a token
bucket kept as one number), and the rows of the present day. They lie in a file that is mapped into memory, so that they
outlive a restart, and cost no system call to read or write. Where several processes share the file, a lock of the
kernel is held for the few instructions of a decision; it falls by itself when its holder dies.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelmill.errors import StorageError
from modelmill.serve.access.quota import Quota, rate
from modelmill.store.disk import make_folder, refused

SLOTS = 16_384
"""Keys and tenants with a quota of their own that one file has room for."""

WORDS = 4
"""Of a slot: whose it is, paid until when, which day, how many rows on it."""

NAME, PAID, DAY, ROWS = range(WORDS)
SECOND = 1_000_000_000
DAY_S = 86_400
PATIENCE_S = 0.1
"""How long a process waits for another one's decision, which takes a few microseconds, before it refuses."""

AT_ONCE = 20
"""Looks at whether the other one has decided before this process sleeps."""

PAUSE_S = 2e-5
"""Between two looks at whether the other one has decided: asleep, so that it can run."""

LATE_NS = 5 * SECOND
"""By how much whoever decides may have read the clock before another one that decided first. What is paid for
further ahead than that was counted by the clock of an earlier boot."""


class Meters:
    """The counts of all keys and tenants with a quota; it holds the memory, and what locks it."""

    def __init__(self, path: Path | None = None, shared: bool = False) -> None:
        size = SLOTS * WORDS * 8
        self.file = _opened(path, size) if path is not None else -1
        self.memory = mmap.mmap(self.file, size)
        self.words = memoryview(self.memory).cast("q")
        self.shared = shared and self.file >= 0
        self.lock = threading.Lock()

    def meter(self, name: str, quota: Quota) -> Meter:
        """The meter of a name, which goes on where it was; the quota may be another than before."""
        with self.alone(patience_s=5.0):
            at = self._slot(name) * WORDS
        return Meter(self.words, at, quota, name.partition(":")[0], quota.requests_in_window, quota.window_s)

    @contextmanager
    def alone(self, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Let no other process decide meanwhile. Raises BlockingIOError if one holds on for too long."""
        with self.lock:
            if not self.shared:
                yield
                return
            import fcntl

            self._claim(fcntl.LOCK_EX | fcntl.LOCK_NB, patience_s)
            try:
                yield
            finally:
                fcntl.lockf(self.file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the memory; the file stays."""
        self.words.release()
        self.memory.close()
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def _claim(self, how: int, patience_s: float) -> None:
        import fcntl

        end = time.monotonic() + patience_s
        tries = 0
        while True:
            try:
                fcntl.lockf(self.file, how)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                tries += 1
                time.sleep(PAUSE_S if tries > AT_ONCE else 0)

    def _slot(self, name: str) -> int:
        """The place of a name: its own from before, or the first free one after where it belongs."""
        mark = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1 or 1
        for step in range(SLOTS):
            slot = (mark + step) % SLOTS
            held = self.words[slot * WORDS + NAME]
            if held == mark:
                return slot
            if not held:
                self.words[slot * WORDS + NAME] = mark
                return slot
        raise StorageError("quotas", f"{SLOTS} keys and tenants have one, and there is no room for more", "")


@dataclass(frozen=True, slots=True, eq=False)
class Meter:
    """One quota, and where its counts lie."""

    words: memoryview
    at: int
    quota: Quota
    whose: str
    """`key` or `tenant`."""
    limit: int
    """The rate as it is stated: so many requests in `window_s`."""
    window_s: int

    @property
    def step(self) -> int:
        """Nanoseconds that one request pays for; 0 without a limit."""
        rate = self.quota.requests_per_s
        return round(SECOND / rate) if rate else 0

    @property
    def slack(self) -> int:
        """How far ahead may be paid: the burst, but for the request itself."""
        return (self.quota.burst_requests - 1) * self.step

    @property
    def farthest(self) -> int:
        """How far ahead a clock of this boot can have paid."""
        return self.slack + self.step + LATE_NS

    def paid(self, now: int) -> int:
        """Until when what was admitted is paid for. A time that no clock of this boot can have made is none."""
        return paid(self.words[self.at + PAID], now, self.farthest)

    def left(self, now: int) -> int:
        """How many requests may come at once now."""
        return max(0, (self.slack - self.paid(now) + now) // self.step + 1)

    def rows(self, day: int) -> int:
        """The rows of that day so far."""
        return self.words[self.at + ROWS] if self.words[self.at + DAY] == day else 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a quota is left, as the headers of an answer say it."""

    limit: int
    window_s: int
    remaining: int
    reset_s: int


class Gate:
    """Decides whether a request of one key is within its key's and its tenant's quota."""

    __slots__ = ("by_rate", "by_rows", "cells", "meters", "rates")

    def __init__(self, meters: Meters, each: Sequence[Meter]) -> None:
        self.meters = meters
        self.by_rate = [meter for meter in each if meter.quota.requests_per_s]
        self.by_rows = [meter for meter in each if meter.quota.rows_per_day]
        self.rates = [(f"quota of the {meter.whose}", _told(meter.quota)) for meter in self.by_rate]
        """What is told of each rate to whoever is beyond it, put together before: refusing is to cost little."""
        self.cells = [(meter.words, meter.at + PAID, meter.step, meter.slack, meter.farthest) for meter in self.by_rate]

    def admit(self, now: int | None = None) -> int:
        """Nanoseconds to wait until a request is within the quotas; 0 if it is, and then it is counted.

        now: nanoseconds of the monotonic clock. Without, it is read when nobody else decides: who waits for another
        one's decision would come with a time from before that, and be counted as if the other had come later.
        """
        if not self.meters.shared:
            with self.meters.lock:
                return self._decide(now)
        try:
            with self.meters.alone():
                return self._decide(now)
        except BlockingIOError:
            return SECOND

    def _decide(self, now: int | None) -> int:
        if now is None:
            now = time.monotonic_ns()
        wait = self.wait(now)
        if not wait:
            for words, at, step, _, farthest in self.cells:
                words[at] = paid(words[at], now, farthest) + step
        return wait

    def wait(self, now: int) -> int:
        """Nanoseconds to wait until a request is within the quotas, as far as can be seen now; nothing is counted."""
        wait = 0
        for words, at, _, slack, farthest in self.cells:
            wait = max(wait, paid(words[at], now, farthest) - slack - now)
        return wait

    def tightest(self, now: int) -> tuple[str, str]:
        """Of the rate with the longest wait, whose it is, and that it is used up."""
        if len(self.rates) == 1:
            return self.rates[0]
        waits = [paid(words[at], now, farthest) - slack for words, at, _, slack, farthest in self.cells]
        return self.rates[waits.index(max(waits))]

    def fewest_rows(self, day: int) -> Meter:
        """The meter with the fewest rows left on that day."""
        return min(self.by_rows, key=lambda meter: meter.quota.rows_per_day - meter.rows(day))

    def smallest_day(self) -> Meter:
        """The meter of the smallest number of rows a day."""
        return min(self.by_rows, key=lambda meter: meter.quota.rows_per_day)

    def rows_left(self, now_s: float) -> float:
        """How many more rows are within the quotas today."""
        day = int(now_s) // DAY_S
        return min((meter.quota.rows_per_day - meter.rows(day) for meter in self.by_rows), default=math.inf)

    def admit_rows(self, rows: int, now_s: float) -> int:
        """Seconds to wait until so many rows are within the quotas; 0 if they are, and then they are counted."""
        if not self.by_rows:
            return 0
        day, since = divmod(int(now_s), DAY_S)
        try:
            with self.meters.alone():
                counts = [meter.rows(day) + rows for meter in self.by_rows]
                if any(count > meter.quota.rows_per_day for meter, count in zip(self.by_rows, counts, strict=True)):
                    return DAY_S - since
                for meter, count in zip(self.by_rows, counts, strict=True):
                    meter.words[meter.at + DAY] = day
                    meter.words[meter.at + ROWS] = count
                return 0
        except BlockingIOError:
            return 1

    def standing(self, now: int, now_s: float) -> Standing:
        """What is left of the tightest rate of requests; without one, of the tightest number of rows a day.

        now: nanoseconds of the monotonic clock. now_s: seconds since 1970.
        """
        if not self.by_rate:
            day, since = divmod(int(now_s), DAY_S)
            left, most = min(
                (meter.quota.rows_per_day - meter.rows(day), meter.quota.rows_per_day) for meter in self.by_rows
            )
            return Standing(most, DAY_S, max(0, left), DAY_S - since)
        meter = min(self.by_rate, key=lambda meter: meter.left(now))
        ahead = meter.paid(now) - now
        left = min(meter.left(now), meter.limit)
        return Standing(meter.limit, meter.window_s, left, -(-ahead // SECOND))


def _told(quota: Quota) -> str:
    return f"{rate(quota)}, {quota.burst_requests:,} at once, is used up"


def paid(until: int, now: int, farthest: int) -> int:
    """Until when is paid for, by what a meter says: from now on where that is past, or of an earlier boot's clock.

    >>> paid(5, 7, 10), paid(12, 7, 10), paid(99, 7, 10)
    (7, 12, 7)
    """
    return now if until < now or until > now + farthest else until


def _opened(path: Path, size: int) -> int:
    make_folder(path.parent)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(file).st_size != size:
            os.ftruncate(file, size)
    except OSError as error:
        raise refused(path, error) from error
    return file
