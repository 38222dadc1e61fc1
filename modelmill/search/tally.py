"""Counts how trials ended, so that a search needs not look at all of them whenever one ends."""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter

from modelmill.trial import State, Trial


class Tally:
    """State: how many trials ended how, how long the finished ones took, and the error of the last that failed."""

    def __init__(self) -> None:
        self._ended: Counter[State] = Counter()
        self._took_s: list[float] = []
        self.next = 0
        """The first number that no trial has had."""
        self.refusals = 0
        """Refused ones since the last that was not."""
        self.error = ""

    def start(self, number: int) -> None:
        """A trial of that number was begun."""
        self.next = max(self.next, number + 1)

    def end(self, trial: Trial) -> None:
        """Take in how a trial ended."""
        self.start(trial.number)
        self._ended[trial.state] += 1
        self.refusals = self.refusals + 1 if trial.state == "refused" else 0
        if trial.state == "failed":
            self.error = trial.error
        if trial.state == "done":
            insort(self._took_s, trial.seconds)

    def of(self, state: State) -> int:
        """How many ended so."""
        return self._ended[state]

    @property
    def counted(self) -> int:
        """How many count against a budget in trials: all that ran."""
        return self._ended.total() - self._ended["refused"]

    @property
    def usual_s(self) -> float:
        """What a quicker trial takes, the lower quartile: one may well be quicker than the median, and is cut off where
        it is not. 0 where nothing is known."""
        return self._took_s[len(self._took_s) // 4] if self._took_s else 0.0


def finite(value: object) -> float:
    """A number that JSON can hold; NaN for anything else.

    >>> finite(2), finite(float("inf")), finite("much"), finite(10**400)
    (2.0, nan, nan, nan)
    """
    if isinstance(value, bool) or (not isinstance(value, int | float) and not hasattr(value, "__float__")):
        return math.nan
    try:
        found = float(value)
    except (OverflowError, TypeError, ValueError):  # an integer beyond all floats, an array of several numbers
        return math.nan
    return found if math.isfinite(found) else math.nan
