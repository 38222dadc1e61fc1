"""How far forecasts are to be trusted, as those that came before turned out."""

from __future__ import annotations

MEMORY = 0.02
"""What one request counts among those that were taken: about fifty are remembered."""
CAUTION = 30.0
"""So many times as much time is reckoned with for every request of all that was late, beside the forecast's own."""
MOST = 4.0
"""But never more times than this."""


class Misses:
    """How often a request that was taken was late: the loop and the machine have more to do than the forecast knows.

    Where many come and all have a deadline, those that are taken wait up to it, and any error makes nearly all of them
    late. So time is reckoned the more generously, the more were late a moment ago, and what is taken is answered.
    """

    __slots__ = ("part",)

    def __init__(self) -> None:
        self.part = 0.0
        """Of the requests that were taken, those that were late."""

    def saw(self, late: bool) -> None:
        """Learn from a request that was taken."""
        self.part += MEMORY * (late - self.part)

    @property
    def factor(self) -> float:
        """What a forecast is multiplied by."""
        return min(MOST, 1.0 + CAUTION * self.part)
