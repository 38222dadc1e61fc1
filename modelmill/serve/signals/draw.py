"""Which requests are told of where a part of all is wanted."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import chain, repeat


class Draw:
    """Draws a part of all, each by itself; how many are passed over is drawn, which costs less than dice each time.

    ratio: the part, 0 to 1.

    >>> everything, nothing = Draw(1.0), Draw(0.0)
    >>> [everything.hits() for _ in range(3)], [nothing.hits() for _ in range(3)]
    ([True, True, True], [False, False, False])
    """

    __slots__ = ("hits",)

    def __init__(self, ratio: float) -> None:
        self.hits = chain.from_iterable(_draws(ratio)).__next__
        """Whether the next one is drawn."""


def _draws(ratio: float) -> Iterator[Iterator[bool]]:
    """Whether each is drawn: a geometric number of those that are not, then one that is, and so on."""
    if ratio <= 0 or ratio >= 1:
        yield repeat(ratio >= 1)
    while True:
        yield repeat(False, math.floor(math.log(1 - random.random()) / math.log1p(-ratio)))
        yield repeat(True, 1)
