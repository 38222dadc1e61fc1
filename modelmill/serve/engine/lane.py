"""The place of a model in the engine: for every shape of its rows a bucket, with a pace of its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from modelmill.serve.engine.misses import Misses
from modelmill.serve.engine.pace import Fit, Pace, Runs

Array = np.ndarray[Any, Any]
Shapes = tuple[tuple[int, ...], ...]

INLINE_MS = 0.3
"""What may run on the loop: a hop to a thread and back costs a third of this, and others wait no longer than this."""
HOP_MS = 0.1
"""What a run on a thread costs beside itself."""
QUANTUM_MS = 10.0
"""Requests are cut to runs of about this, so that they use all cores and let others in between."""
LONGEST_MS = 50.0
"""No batch grows beyond this, however much a larger one would save."""
BUCKETS = 64
"""How many shapes a lane remembers."""

MOST_ROWS = 8192
"""No run has more rows: it bounds the memory of what lies between."""
UNKNOWN_ROWS = 64
"""The rows of a run while nothing is known of the model's pace."""

ARRIVALS = 8
"""From so many requests it is told how often they come."""


class Bucket:
    """Requests of one model whose rows have one shape: they may share runs, and have a pace of their own.

    It knows nothing of its lane, so that a model that is let go of is gone at once.
    """

    __slots__ = (
        "arrivals",
        "batches",
        "enough",
        "fit",
        "inline_rows",
        "light_rows",
        "longest_ms",
        "misses",
        "most",
        "open",
        "shapes",
        "waiting",
    )

    def __init__(self, shapes: Shapes, fit: Fit, batches: bool, open: bool) -> None:
        self.shapes = shapes
        self.batches = batches
        self.open = open
        self.fit = fit
        self.misses = Misses()
        self.waiting = 0
        """How many payers wait in it."""
        self.arrivals: deque[float] = deque(maxlen=ARRIVALS)
        """When the last requests came."""
        self.enough = 1
        """The rows from which on a larger run gains nothing: no more requests are joined to it."""
        self.longest_ms = 0.0
        """What a request of no more rows than that takes in the largest run that it may be joined to."""
        self.most = 1
        """The most rows of one request in a run; a larger one is cut."""
        self.inline_rows = 0
        """The most rows that are run on the loop."""
        self.light_rows = 0
        """The most rows whose run takes less than a hop to a thread: they are never worth one."""
        self.settle()

    def settle(self) -> None:
        """Work out anew what follows from the pace."""
        fit = self.fit
        if not fit.is_known:
            self.enough = self.most = UNKNOWN_ROWS
            self.longest_ms = HOP_MS
            return
        self.enough = max(1, int(min(fit.enough(HOP_MS), fit.within(LONGEST_MS))))
        self.longest_ms = (fit.of(self.enough) + HOP_MS) * (1 + fit.spread)
        self.most = max(self.enough, int(min(fit.within(QUANTUM_MS), MOST_ROWS)))
        if self.batches and (not self.open or fit.seen_at > -math.inf):
            self.inline_rows = inline_rows(fit.start_ms, fit.row_ms)
            self.light_rows = inline_rows(fit.start_ms, fit.row_ms, HOP_MS)

    def gap_ms(self, now: float) -> float:
        """In how many milliseconds the next request is to be expected, from the last ones; a silence counts, too."""
        if len(self.arrivals) < ARRIVALS:
            return math.inf
        return max((now - self.arrivals[0]) / ARRIVALS, now - self.arrivals[-1]) * 1000

    def see(self, rows: int, ms: float, now: float) -> None:
        """Learn from a run."""
        self.fit.see(rows, ms, now)
        self.settle()

    def work_ms(self, rows: int, pieces: int) -> float:
        """What so many rows of so many pieces will take on one thread, run in good batches."""
        fit = self.fit
        if not pieces or not fit.is_known:
            return 0.0
        runs = max(1.0, rows / self.enough) if self.batches else pieces
        return fit.row_ms * rows + (fit.start_ms + HOP_MS) * min(runs, pieces)


class Meter(Protocol):
    """Where a lane's figures go."""

    def ran(self, rows: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """Count a run: its rows, and how long it took to join its columns, to run, and to take its outputs apart.

        On the loop there is nothing to join and to take apart.
        """

    @property
    def ran_one(self) -> Callable[[int], None]:
        """Count a run of one row on the loop, and its nanoseconds; an answer is told soon, or `awake` called."""

    def awake(self) -> None:
        """Have added up what was counted."""

    def waited(self, ns: int, rows: int) -> None:
        """Count how long a request that was answered had waited, and its rows; those that ran on the loop did not."""


class Lane:
    """The place of one model in the engine: its session, how fast it is, who waits for it, and what it has done.

    batches: whether rows of several requests may share a run: the rows' axis is variable everywhere. open: whether
    sizes beside the rows are left to the client, so that a run's time depends on them. metered: gives the meter, asked
    on the loop when first something runs. The session may be replaced while runs are under way; they end with the one
    that they began with.
    """

    __slots__ = (
        "_meter",
        "_metered",
        "_pace",
        "batches",
        "buckets",
        "inline_rows",
        "light_rows",
        "open",
        "running",
        "session",
        "slow",
        "waiting",
    )

    def __init__(
        self,
        session: Runs,
        pace: Pace,
        batches: bool,
        metered: Callable[[], Meter] | None = None,
        open: bool = False,
    ) -> None:
        self.session = session
        self.batches = batches
        self._metered = metered
        self._meter: Meter | None = None
        self.open = open
        self.buckets: dict[Shapes, Bucket] = {}
        self.inline_rows = 0
        """The most rows that are run on the loop, whatever their shape."""
        self.light_rows = 0
        """Those of them whose run takes less than a hop to a thread."""
        self.waiting = 0
        """Requests that wait for a run of it, wholly or in part."""
        self.running = 0
        """Its runs that are under way, or lie ready."""
        self.slow = 0
        """Runs on the loop that took too long, since the last that did not."""
        self.pace = pace

    @property
    def meter(self) -> Meter | None:
        """Where its figures go."""
        if self._meter is None and self._metered is not None:
            self._meter = self._metered()
        return self._meter

    @property
    def pace(self) -> Pace:
        """How long a run takes, as measured when the model was loaded; setting it forgets what was learned since."""
        return self._pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self._pace = pace
        for bucket in self.buckets.values():
            bucket.fit = Fit(pace)
            bucket.settle()
        known = self.batches and not self.open
        self.inline_rows = inline_rows(pace.start_ms, pace.row_ms) if known else 0
        self.light_rows = inline_rows(pace.start_ms, pace.row_ms, HOP_MS) if known else 0

    def of(self, columns: Mapping[str, Array] | None) -> Bucket | None:
        """The bucket for rows of such shapes, if any were seen."""
        return self.buckets.get(shapes_of(columns)) if columns is not None else None

    def bucket(self, columns: Mapping[str, Array]) -> Bucket:
        """The bucket for rows of such shapes."""
        shapes = shapes_of(columns)
        found = self.buckets.get(shapes)
        return found if found is not None else self._add(shapes)

    def learn(self, bucket: Bucket, rows: int, ms: float, now: float) -> None:
        """Take a run into account."""
        bucket.see(rows, ms, now)
        if not self.open:
            self.inline_rows = bucket.inline_rows
            self.light_rows = bucket.light_rows

    def _add(self, shapes: Shapes) -> Bucket:
        """A bucket whose pace is guessed from the one before, by the numbers in a row."""
        if len(self.buckets) >= BUCKETS:
            idle = next((key for key, bucket in self.buckets.items() if not bucket.waiting), None)
            if idle is not None:
                del self.buckets[idle]
        fit = Fit(self._pace)
        last = next(reversed(self.buckets.values()), None)
        if self.open and last is not None and last.fit.is_known:
            ratio = max(1, elements(shapes)) / max(1, elements(last.shapes))
            fit = Fit(Pace(last.fit.start_ms * ratio, last.fit.row_ms * ratio))
        bucket = self.buckets[shapes] = Bucket(shapes, fit, self.batches, self.open)
        return bucket


def shapes_of(columns: Mapping[str, Array]) -> Shapes:
    """The shapes of a row of the columns."""
    return tuple([column.shape[1:] for column in columns.values()])


def elements(shapes: Shapes) -> int:
    """How many numbers a row has.

    >>> elements(((3, 32, 32), ()))
    3073
    """
    return sum(int(np.prod(shape)) for shape in shapes)


def inline_rows(start_ms: float, row_ms: float, most_ms: float = INLINE_MS) -> int:
    """The most rows that a run on the loop may have, where it may take so long.

    >>> inline_rows(0.1, 0.01), inline_rows(0.5, 0.01)
    (20, 0)
    """
    left = most_ms - start_ms
    if not left >= row_ms:
        return 0
    return min(MOST_ROWS, int(left / row_ms + 1e-9)) if row_ms > 0 else MOST_ROWS
