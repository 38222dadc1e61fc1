"""Stops trials that are worse than half of the others were at the same point."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Stopper
from modelmill.history import Curve


class Median(Stopper):
    """Stop a trial whose best loss so far is above the median of the others' running averages up to the same point.

    Only trials that keep the limits are worth comparing with: a quick, good model that is too large must not push out a
    slower learner that fits. A trial that ended before that point counts with the average of all of its points.

    Golovin, Solnik, Moitra, Kochanski, Karro, Sculley (2017), https://doi.org/10.1145/3097983.3098043
    """

    startup: Annotated[int, Meta(ge=1)] = 5
    """Trials that must have finished before any is stopped."""
    warmup: Annotated[int, Meta(ge=0)] = 3
    """Points that every trial may pass."""

    def __call__(self, curve: Curve, others: Sequence[Curve]) -> str:
        """A reason where the best of the curve is above the median of the others."""
        others = [other for other in others if other.kept and other.losses]
        if len(others) < self.startup or len(curve.losses) <= self.warmup:
            return ""
        averages = [_average(other, len(curve.losses)) for other in others]
        if min(loss[0] for loss in curve.losses) > median(averages):
            return "more than half of the others were better by then"
        return ""


def _average(curve: Curve, points: int) -> float:
    losses = [loss[0] for loss in curve.losses[:points]]
    return sum(losses) / len(losses)
