"""Stops trials that are worse than half of the others were at the same point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Stopper
from modelmill.history import Curve
from modelmill.search.standing import At, Losses, beaten, ranked, stood


class Median(Stopper):
    """Stop a trial whose best loss so far is behind half of the others' running averages up to the same point.

    Only trials that keep the limits are worth comparing with: a quick, good model that is too large must not push out a
    slower learner that fits. A trial that ended before that point counts with the average of all of its points. With
    several objectives it is stopped where another beats it and most of them stand before it, front by front.

    Golovin, Solnik, Moitra, Kochanski, Karro, Sculley (2017), https://doi.org/10.1145/3097983.3098043
    """

    startup: Annotated[int, Meta(ge=1)] = 5
    """Trials that must have finished before any is stopped."""
    warmup: Annotated[int, Meta(ge=0)] = 3
    """Steps that every trial may pass; the end of a fold comes after all of them."""

    def __call__(self, curve: Curve, others: Sequence[Curve]) -> str:
        """A reason where more than half of the others stand before it."""
        at = curve.at[-1]
        others = [other for other in others if other.kept and other.losses]
        if len(others) < self.startup or (not at[0] and len(curve.at) <= self.warmup):
            return ""
        own = stood(curve, at)
        averages = [found for other in others if (found := _average(other, at)) is not None]
        if own is None or not (own[1] or beaten(own[0], averages)):
            return ""
        place = ranked([own, *((losses, 0.0) for losses in averages)]).index(0)
        return "more than half of the others were better by then" if place > len(averages) / 2 else ""


def _average(curve: Curve, at: At) -> Losses | None:
    """The mean of the points up to `at` in the steps of a fold; after a fold what it had reached."""
    if at[0] and not at[1]:
        found = stood(curve, at)
        return found[0] if found else None
    rows = [losses for place, losses in zip(curve.at, curve.losses, strict=True) if place[0] == at[0] and place <= at]
    return tuple(sum(values) / len(rows) for values in zip(*rows, strict=True)) if rows else None
