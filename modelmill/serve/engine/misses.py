"""How far forecasts are to be trusted, as those that came before turned out."""

from __future__ import annotations

import math

MEMORY = 0.02
"""What one request counts among those that were taken: about fifty are remembered."""
CAUTION = 30.0
"""So many times as much time is reckoned with for every request of all that was late, beside the forecast's own."""
LEAST = 1e-4
"""A smaller part is none."""
MOST = 4.0
"""But never more times than this."""
HALF_S = 0.5
"""After so long without a late one half of it is forgotten: a machine that stood still for a moment is as it was."""


class Misses:
    """How often a request that was taken was late: the loop and the machine have more to do than the forecast knows.

    Where many come and all have a deadline, those that are taken wait up to it, and any error makes nearly all of them
    late. So time is reckoned the more generously, the more were late a moment ago, and what is taken is answered.
    """

    __slots__ = ("part", "seen_s")

    def __init__(self) -> None:
        self.part = 0.0
        """Of the requests that were taken, those that were late."""
        self.seen_s = 0.0
        """When the last one was late."""

    def saw(self, late: bool, now: float) -> None:
        """Learn from a request that was taken."""
        if late or self.part:
            part = self._left(now) + MEMORY * (late - self.part)
            self.part = part if part > LEAST else 0.0
            self.seen_s = now

    def factor(self, now: float) -> float:
        """What a forecast is multiplied by."""
        return min(MOST, 1.0 + CAUTION * self._left(now)) if self.part else 1.0

    def _left(self, now: float) -> float:
        """What is left of the part at a time."""
        return self.part * math.exp2(min(0.0, (self.seen_s - now) / HALF_S))
