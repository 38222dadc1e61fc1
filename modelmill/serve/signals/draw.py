"""Which requests are told of where a part of all is wanted."""

from __future__ import annotations

import math
import random


class Draw:
    """Draws a part of all, each by itself; it counts down to the next one, which costs less than dice each time.

    ratio: the part, 0 to 1.

    >>> everything, nothing = Draw(1.0), Draw(0.0)
    >>> [everything.hits() for _ in range(3)], [nothing.hits() for _ in range(3)]
    ([True, True, True], [False, False, False])
    """

    __slots__ = ("_left", "_ratio")

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._left = self._gap()

    def hits(self) -> bool:
        """Whether the next one is drawn."""
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._gap()
        return True

    def _gap(self) -> float:
        """How many there are up to the next one: a geometric number."""
        if self._ratio >= 1:
            return 1
        if self._ratio <= 0:
            return math.inf
        return 1 + math.floor(math.log(1 - random.random()) / math.log1p(-self._ratio))
