"""Memory that large requests have left behind goes back to the machine.

The runtime keeps what the largest run of every model needed, and the allocator of the C library what was freed, up to
64 MB in every part of its heap (glibc). That is good while such requests come one after the other, and a waste of the
machine where one came an hour ago.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modelmill.runtime.memory import give_back, resident_bytes
from modelmill.serve.engine.threads import stand_back
from modelmill.serve.models.endpoint import Endpoint

WORTH_BYTES = 4_000_000
"""So much must be there beyond what was left the last time: to ask the allocator costs milliseconds."""
SHORT_MS = 100.0
"""Models that take longer for a row keep what they have: a run that nobody asked for would keep others waiting."""
SHRINKING_S = 1.0
"""No more time is taken for models at once."""
LOOK_S = 1.0
"""How often it is looked."""
EVERY_S = 5.0
"""How long a thing that was given back must not be needed again at once."""
LONGEST_S = 30.0
"""How often memory is given back at least where it is needed again each time, and how soon once more: what was in use
the first time may be free by then."""
CALM_S = 300.0
"""How often in any case."""
SELDOM = 1000.0
"""The pause is so many times as long as it took: whoever asks the allocator meanwhile waits, and a large heap takes a
tenth of a second."""


class Ebb:
    """When memory is to be given back: soon after it has grown, and ever more seldom where it grows again at once.

    resident: the bytes that are there.
    """

    def __init__(self, resident: Callable[[], int] = resident_bytes) -> None:
        self.resident = resident
        self.low = resident()
        """What was there at the least since memory was last given back."""
        self.pause_s = EVERY_S
        self.given_s = -math.inf
        """When that was."""
        self.next_s = math.inf
        """When it is given back even if it does not grow."""

    def is_due(self, now: float) -> bool:
        """Whether memory is to be given back now."""
        there = self.resident()
        self.low = min(self.low, there)
        grown = there >= self.low + WORTH_BYTES
        if not grown and now - self.given_s > 2 * self.pause_s:
            self.pause_s = EVERY_S
        if now - self.given_s < self.pause_s:
            return False
        if grown:
            self.next_s = now + LONGEST_S
            return True
        if now >= self.next_s:
            self.next_s = now + CALM_S
            return True
        return False

    def given(self, now: float, took_s: float = 0.0) -> None:
        """Memory was given back, which took so long; what is there now is in use."""
        pause_s = min(2 * self.pause_s, LONGEST_S) if now - self.given_s <= 2 * self.pause_s else EVERY_S
        self.pause_s = max(pause_s, SELDOM * took_s)
        self.given_s = now
        self.low = self.resident()


async def ebb(held: Mapping[Any, Endpoint]) -> None:
    """Give memory back for as long as the service runs, on a thread. held: what is loaded."""
    tide, loop = Ebb(), asyncio.get_running_loop()
    aside = ThreadPoolExecutor(1, "modelmill-ebb", stand_back)
    try:
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if tide.is_due(now):
                took_s = await loop.run_in_executor(aside, _give_back, _recent(held, now))
                tide.given(time.monotonic(), took_s)
    finally:
        aside.shutdown(wait=False)


def _recent(held: Mapping[Any, Endpoint], now: float) -> list[weakref.ref[Endpoint]]:
    """The models that were used lately, the last one first, as far as a run of theirs is short."""
    used = [each for each in tuple(held.values()) if each.used >= now - 2 * CALM_S and each.lane.pace.of(1) <= SHORT_MS]
    return [weakref.ref(each) for each in sorted(used, key=lambda each: -each.used)]


def _give_back(used: Iterable[weakref.ref[Endpoint]]) -> float:
    """Give back what is free, also of those models that were used; the seconds that the allocator took for it.

    Whichever model is let go of meanwhile goes.
    """
    end = time.monotonic() + SHRINKING_S
    for each in used:
        endpoint = each()
        if endpoint is not None:
            endpoint.shrink()
        del endpoint
        if time.monotonic() > end:
            break
    began = time.monotonic()
    give_back()
    return time.monotonic() - began
