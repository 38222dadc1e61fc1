"""Keeps a budget: how many trials, how much time, and whether another trial still fits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelmill.spec import Budget

LATE_S = 1.0
"""How long after its deadline a search may still measure a candidate that came in before it."""


@dataclass(frozen=True)
class Clock:
    """A budget that started at `started` on some clock of seconds, less what earlier runs of the study have spent."""

    budget: Budget
    started: float
    spent_s: float = 0.0

    @property
    def deadline(self) -> float:
        """When the search ends; infinite for a budget in trials."""
        return math.inf if self.budget.seconds is None else self.started + self.budget.seconds - self.spent_s

    def elapsed_s(self, now: float) -> float:
        """What the study has spent in all of its runs."""
        return self.spent_s + now - self.started

    def fits(self, now: float, trials: int, usual_s: float) -> bool:
        """Whether another trial may start after so many, given how long one takes.

        >>> clock = Clock(Budget(seconds=10), started=100)
        >>> clock.fits(107, 4, 2.0), clock.fits(109, 4, 2.0)
        (True, False)
        """
        if self.budget.trials is not None and trials >= self.budget.trials:
            return False
        return now + usual_s < self.deadline

    def allowance_s(self, now: float, measuring_s: float, share: float) -> float | None:
        """The seconds that a trial which starts now may use, at most `share` of the whole; None for no limit."""
        if self.budget.seconds is None:
            return None
        return max(0.1, min(self.deadline - now - measuring_s, share * self.budget.seconds))

    def may_measure(self, now: float, measuring_s: float) -> bool:
        """Whether a measurement that takes so long still ends in time."""
        return now + measuring_s < self.deadline + LATE_S
