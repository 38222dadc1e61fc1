"""How long runs take: measured when a model is loaded, and followed while it is served."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np

from modelmill.runtime.session import Stop

Array = np.ndarray[Any, Any]

KEPT = 0.967
"""What a past run still counts after another one: about thirty runs are remembered."""
WEIGHT = 2.0
"""How many runs each of the two points of the first measurement counts, for ever: they hold the slope where all runs
have the same rows."""
SHIFT = 5
"""So many runs off the line on one side, one after the other, are no hiccups."""
POINTS = (1, 16)
LONG_MS = 50.0
"""Of models with longer runs several rows are timed later, where somebody waits."""
MANY_MS = 200.0
"""No more rows are timed together than take so long, two at the least; longer runs are timed once, cold."""
WASTE = 0.05
"""A batch need not grow further once its start costs less than this part of it."""


class Runs(Protocol):
    """What an engine runs: a session."""

    def run(
        self, columns: Mapping[str, Array], outputs: tuple[str, ...] | None = None, stop: Stop | None = None
    ) -> dict[str, Array]:
        """The outputs for the columns; `stop` ends the run from another thread."""


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

    @property
    def is_known(self) -> bool:
        """Whether the model could be run at all when it was loaded."""
        return math.isfinite(self.start_ms)


class Fit:
    """A pace that follows the runs that are seen: a line through milliseconds by rows; it changes with every run.

    Relative errors are minimised, as the noise of a run grows with its length; a run far off the line counts only as
    far as the usual spread, so that one hiccup changes little. Old runs are forgotten, the first measurement is not: it
    is scaled to what is seen.
    """

    __slots__ = ("_outside", "_scale", "_sums", "prior", "row_ms", "seen_at", "spread", "start_ms")

    def __init__(self, prior: Pace) -> None:
        self.prior = prior
        self.start_ms = prior.start_ms
        self.row_ms = prior.row_ms
        self.spread = 0.2
        """The mean error of a prediction, as a part of it."""
        self.seen_at = -math.inf
        """When the last run was seen."""
        self._scale = 1.0
        self._outside = 0
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def is_known(self) -> bool:
        """Whether anything can be predicted."""
        return math.isfinite(self.start_ms)

    def of(self, rows: int) -> float:
        """Milliseconds that a run of so many rows will take; 0 where nothing is known."""
        return self.start_ms + self.row_ms * rows if self.is_known else 0.0

    def enough(self, extra_ms: float) -> float:
        """The rows from which on a larger batch saves next to nothing, where a run costs `extra_ms` beside itself."""
        start_ms = self.start_ms + extra_ms
        return start_ms / (WASTE * self.row_ms) if self.row_ms > WASTE * start_ms / 65_536 else 65_536.0

    def within(self, ms: float) -> float:
        """The rows of a run that takes so long."""
        return (ms - self.start_ms) / self.row_ms if self.row_ms * 65_536 > ms else 65_536.0

    def see(self, rows: int, ms: float, now: float) -> None:
        """Learn from a run."""
        self.seen_at = now
        if not self.is_known:
            self.prior = Pace(ms / 2, ms / 2 / rows)
            self.start_ms, self.row_ms = self.prior.start_ms, self.prior.row_ms
            return
        expected = max(self.of(rows), 1e-4)
        off = ms / expected - 1
        bound = max(0.1, 4 * self.spread)
        self._outside = 0 if abs(off) <= bound else max(1, self._outside + 1) if off > 0 else min(-1, self._outside - 1)
        if abs(self._outside) == SHIFT:
            self._shift(ms / expected)
            return
        self.spread += 0.1 * (min(abs(off), 1.0) - self.spread)
        ms = expected * (1 + min(max(off, -bound), bound))
        self._scale += 0.1 * (ms / max(self.prior.of(rows), 1e-4) - self._scale)
        weight = 1 / expected**2
        one, x, xx, y, xy = (value * KEPT for value in self._sums)
        self._sums = (
            one + weight,
            x + weight * rows,
            xx + weight * rows * rows,
            y + weight * ms,
            xy + weight * rows * ms,
        )
        self._solve()

    def _shift(self, ratio: float) -> None:
        """Take everything as so many times as long, at once: the machine has become faster or slower."""
        one, x, xx, y, xy = self._sums
        self._sums = (one / ratio**2, x / ratio**2, xx / ratio**2, y / ratio, xy / ratio)
        self._scale *= ratio
        self._outside = 0
        self._solve()

    def _solve(self) -> None:
        one, x, xx, y, xy = self._sums
        for rows in POINTS:
            ms = max(self._scale * self.prior.of(rows), 1e-4)
            weight = WEIGHT / ms**2
            one, x, xx = one + weight, x + weight * rows, xx + weight * rows * rows
            y, xy = y + weight * ms, xy + weight * rows * ms
        self.row_ms = (one * xy - x * y) / (one * xx - x * x)
        self.start_ms = (y - self.row_ms * x) / one
        if self.row_ms < 0:
            self.row_ms, self.start_ms = 0.0, y / one
        elif self.start_ms < 0:
            self.row_ms, self.start_ms = xy / xx, 0.0


def measure(session: Runs, columns: Mapping[str, Array], batches: bool, hurried: bool = False) -> Pace:
    """Time a session on one example row, and on several of them; the first runs warm it up.

    hurried: somebody waits for the first answer, so that of a model whose runs are long no more is timed than one.
    """
    one_ms = timed(session, columns)
    if not batches or (hurried and one_ms > LONG_MS):
        return Pace(one_ms, 0.0) if not batches else Pace(0.0, one_ms)
    count = max(2, min(POINTS[1], int(MANY_MS / max(one_ms, 1e-3))))
    many_ms = timed(session, {name: np.repeat(column, count, axis=0) for name, column in columns.items()})
    row_ms = max(0.0, (many_ms - one_ms) / (count - 1))
    return Pace(max(0.0, one_ms - row_ms), row_ms)


def timed(session: Runs, columns: Mapping[str, Array]) -> float:
    """Median milliseconds of a run, after one that warms it up; of runs that take long the first one counts."""
    times: list[float] = []
    while len(times) < 10 and sum(times[1:]) < 20:
        start = time.perf_counter()
        session.run(columns)
        times.append((time.perf_counter() - start) * 1000)
        if times[0] > MANY_MS:
            return times[0]
    return median(times[1:])
