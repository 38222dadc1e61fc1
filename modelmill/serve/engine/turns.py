"""Fair shares of the loop: whose small requests are answered as they come, and whose wait until others had theirs.

What is cheap runs on the loop, in the order in which it comes, so that whoever sends most would have most of it. Where
several payers ask, each has a clock that runs on by what its requests cost, divided by its weight, as in `shares`; one
that is ahead of the others waits, and its requests are answered between theirs. Alone, one gets everything, and pays
for no account.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from modelmill.serve.engine.terms import Terms

SEEN_S = 0.05
"""Whoever asked within this time takes part."""
SLACK_S = 0.001
"""So much more than the others one may have had before one waits."""
ORDINARY_S = 0.0003
"""What a request costs beside its run where a task answers it."""
TURN_S = 0.0002
"""How long those who wait are answered before the loop looks for what has come."""
FLOOR_S = 0.0005
"""How often it is worked out anew how far the others are."""


class Place:
    """A payer, how far ahead it is, and what waits for it."""

    __slots__ = ("clock_s", "line", "seen_s")

    def __init__(self) -> None:
        self.clock_s = 0.0
        """Seconds of the loop that it had, divided by its weight."""
        self.seen_s = -math.inf
        self.line: deque[Callable[[], None]] = deque()


class Turns:
    """The payers that ask at the same time; all calls are made on one loop.

    clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.places: dict[str, Place] = {}
        """Those that were seen a moment ago, and those for whom something waits."""
        self.lines: dict[str, Place] = {}
        """Those for whom something waits."""
        self.last: str | None = None
        """Who asked last."""
        self.mixed_until_s = -math.inf
        """Until then several payers take part."""
        self.floor_s = 0.0
        """The clock that is furthest behind."""
        self.floored_s = -math.inf
        self.end_s = 0.0
        """Until then those who wait are answered."""

    @property
    def is_mixed(self) -> bool:
        """Whether several payers take part."""
        return bool(self.lines) or self.clock() < self.mixed_until_s

    def must_wait(self, terms: Terms) -> bool:
        """Whether a request of this payer is to be put in line: it had more than its share, or some of its own wait."""
        if not self.is_mixed:
            return False
        place = self.places.get(terms.payer)
        if place is None:
            return False
        return bool(place.line) or place.clock_s > self._floor() + SLACK_S / terms.share

    def spent(self, terms: Terms, seconds: float) -> None:
        """Count what a request cost."""
        payer = terms.payer
        now = self.clock()
        if payer != self.last:
            if self.last is not None:
                self.mixed_until_s = now + SEEN_S
            self.last = payer
        if not self.is_mixed:
            return
        place = self.places.get(payer)
        if place is None or place.seen_s < now - SEEN_S:  # whoever comes, or comes back, starts where the others are
            floor_s = self._floor()
            place = self.places.setdefault(payer, place or Place())
            place.clock_s = max(place.clock_s, floor_s)
        place.seen_s = now
        place.clock_s += seconds / terms.share

    def put(self, terms: Terms, work: Callable[[], None]) -> None:
        """Let a request wait: `work` is called when its turn has come."""
        place = self.places.setdefault(terms.payer, Place())
        place.line.append(work)
        if not self.lines:
            asyncio.get_running_loop().call_soon(self._answer)
        self.lines[terms.payer] = place

    async def take(self, terms: Terms) -> None:
        """Return when it is this payer's turn; what it costs is to be said to `spent`."""
        if not self.must_wait(terms):
            return
        turn = asyncio.get_running_loop().create_future()

        def begin() -> None:
            if not turn.done():
                turn.set_result(None)
                self.end_s -= ORDINARY_S

        self.put(terms, begin)
        await turn

    def _answer(self) -> None:
        """Answer some of those who wait, the one who is furthest behind first."""
        self.end_s = self.clock() + TURN_S
        while self.lines:
            payer = min(self.lines, key=lambda name: self.lines[name].clock_s)
            place = self.lines[payer]
            work = place.line.popleft()
            if not place.line:
                del self.lines[payer]
            work()
            if self.clock() >= self.end_s:
                break
        if self.lines:
            asyncio.get_running_loop().call_soon(self._answer)

    def _floor(self) -> float:
        now = self.clock()
        if now - self.floored_s >= FLOOR_S:
            self.floored_s = now
            self.places = {
                name: place for name, place in self.places.items() if place.line or place.seen_s >= now - SEEN_S
            }
            self.floor_s = max(self.floor_s, min((place.clock_s for place in self.places.values()), default=0.0))
        return self.floor_s
