"""Stops trials that are worse than half of the others were at the same step."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Stopper


class Median(Stopper):
    """Stop a trial whose best value so far is below the median of the others' running averages up to the same step.

    A trial that ended before that step counts with the average of all of its steps.

    >>> stopper = Median(startup=2, warmup=1)
    >>> stopper(curve=[0.2, 0.3], others=[[0.4, 0.6], [0.2, 0.8]])
    True
    >>> stopper(curve=[0.2, 0.5], others=[[0.4, 0.6], [0.2, 0.8]])
    False

    Golovin, Solnik, Moitra, Kochanski, Karro, Sculley (2017), https://doi.org/10.1145/3097983.3098043
    """

    startup: Annotated[int, Meta(ge=1)] = 5
    """Trials that must have finished before any is stopped."""
    warmup: Annotated[int, Meta(ge=0)] = 3
    """Steps that every trial may take."""

    def __call__(self, curve: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether the best of the curve is below the median of the others."""
        others = [other for other in others if other]
        if len(others) < self.startup or len(curve) <= self.warmup:
            return False
        averages = [sum(other[: len(curve)]) / len(other[: len(curve)]) for other in others]
        return max(curve) < median(averages)
