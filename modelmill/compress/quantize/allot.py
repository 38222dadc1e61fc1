"""Which precision each node gets: the smallest sum of losses whose sum of costs keeps a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BUCKETS = 1000
"""Parts that the limit is cut into; costs are rounded up to whole ones."""


class Option(NamedTuple):
    """One precision for one node: its name, what it loses, and what it costs."""

    name: str
    loss: float
    cost: float


def allot(table: Sequence[Sequence[Option]], limit: float) -> list[int] | None:
    """The number of the option of every node, by dynamic programming over the sum of costs; None where none fits.

    Costs may be below zero: only how far an option is above the cheapest one of its node counts.

    >>> cheap, dear = Option("8 bits", 0.5, 1), Option("floats", 0.0, 4)
    >>> allot([[cheap, dear], [cheap._replace(loss=0.1), dear]], 5)
    [1, 0]
    >>> allot([[cheap, dear], [cheap, dear]], 1) is None
    True
    """
    least = [min(option.cost for option in options) for options in table]
    room = limit - sum(least)
    if room < -1e-9 * max(abs(limit), 1.0):
        return None
    unit = max(room, 1e-12) / BUCKETS
    losses = np.zeros(BUCKETS + 1)
    picks: list[np.ndarray] = []
    for options, cheapest in zip(table, least, strict=True):
        tried = np.full((len(options), BUCKETS + 1), np.inf)
        for number, option in enumerate(options):
            step = int(np.ceil((option.cost - cheapest) / unit - 1e-6))
            if step <= BUCKETS:
                tried[number, step:] = losses[: BUCKETS + 1 - step] + max(option.loss, 0.0)
        picks.append(tried.argmin(axis=0))
        losses = tried.min(axis=0)
    return _back(table, least, picks, unit)


def _back(
    table: Sequence[Sequence[Option]], least: Sequence[float], picks: Sequence[np.ndarray], unit: float
) -> list[int]:
    """The options along the way that led to the smallest loss."""
    place, chosen = BUCKETS, []
    for options, cheapest, pick in reversed(list(zip(table, least, picks, strict=True))):
        number = int(pick[place])
        chosen.append(number)
        place -= int(np.ceil((options[number].cost - cheapest) / unit - 1e-6))
    return chosen[::-1]
