"""Memory that large requests have left behind goes back to the machine.

An allocator keeps what was freed for what comes next, up to 64 MB in every part of its heap (glibc). That is good while
such requests come one after the other, and a waste of the machine where one came an hour ago.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from modelmill.runtime.memory import give_back, resident_bytes

WORTH_BYTES = 4_000_000
"""So much must be there beyond what was left the last time: to ask the allocator costs milliseconds."""
LOOK_S = 1.0
"""How often it is looked."""
EVERY_S = 5.0
"""How long a thing that was given back must not be needed again at once."""
LONGEST_S = 300.0
"""How often memory is given back at least where it is needed again each time."""


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

    def is_due(self, now: float) -> bool:
        """Whether memory is to be given back now."""
        there = self.resident()
        self.low = min(self.low, there)
        grown = there >= self.low + WORTH_BYTES
        if not grown and now - self.given_s > 2 * self.pause_s:
            self.pause_s = EVERY_S
        return grown and now - self.given_s >= self.pause_s

    def given(self, now: float) -> None:
        """Memory was given back; what is there now is in use."""
        self.pause_s = min(2 * self.pause_s, LONGEST_S) if now - self.given_s <= 2 * self.pause_s else EVERY_S
        self.given_s = now
        self.low = self.resident()


async def ebb() -> None:
    """Give memory back for as long as the service runs, on a thread."""
    tide = Ebb()
    while True:
        await asyncio.sleep(LOOK_S)
        if tide.is_due(time.monotonic()):
            await asyncio.to_thread(give_back)
            tide.given(time.monotonic())
