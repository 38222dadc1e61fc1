"""Stops trials whose course can no longer lead to the front of the finished ones."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Stopper
from modelmill.history import Curve
from modelmill.search.standing import At, Losses, beaten, ends, stood


class Front(Stopper):
    """Stop a trial that would not reach the front of the finished ones if it gained what such trials gain.

    What a trial may still hope for is what the finished trials gained from the same point on, those that stood next to
    it there. Costs are known before training, so that a small, weak candidate is let go on as long as none as small is
    better. With one objective the front is the best trial. Where limits are named, only trials that keep them count.

    How a training stands at its beginning says little: small steps of learning, and few weights, are slow to show what
    they come to, and a front is made of such trials too. So none is stopped in the first part of its course.

    Hope as a bound on what a curve may still gain: Swersky, Snoek, Adams (2014), https://arxiv.org/abs/1406.3896
    """

    hope: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Which gain of the others it may hope for: 1 is the largest, 0.5 what half of them did not exceed."""
    startup: Annotated[int, Meta(ge=2)] = 3
    """Trials that must have finished before any is stopped."""
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.3
    """The share of a training that every trial may pass: of the steps that finished ones took in the first fold."""
    near: Annotated[int, Meta(ge=1)] = 8
    """So many finished trials that stood nearest to it are looked at."""

    def __call__(self, curve: Curve, others: Sequence[Curve]) -> str:
        """A reason where the best that can be hoped for is beaten."""
        finished = [other for other in others if other.kept]
        if len(finished) < self.startup or curve.at[-1][1] < self.warmup * _usual(finished, curve.at[-1][0]):
            return ""
        own = stood(curve, curve.at[-1])
        if own is None:
            return ""
        hoped = self.hoped(own[0], curve.at[-1], finished)
        if hoped is None or not beaten(hoped, ends(finished)):
            return ""
        return "with what others gained from there on it would not reach the front"

    def hoped(self, losses: Losses, at: At, finished: Sequence[Curve]) -> Losses | None:
        """The losses that a trial may hope to end with; None where too few came to that point."""
        pairs = [(found[0], other.losses[-1]) for other in finished if (found := stood(other, at)) is not None]
        if len(pairs) < self.startup:
            return None
        then, last = (np.asarray(side, float) for side in zip(*pairs, strict=True))
        spread = np.ptp(then, axis=0)
        apart = np.abs(then - np.asarray(losses)) / np.where(spread > 0, spread, 1.0)
        gains = then - last
        hoped = []
        for axis, loss in enumerate(losses):
            nearest = np.argsort(apart[:, axis], kind="stable")[: self.near]
            hoped.append(float(loss - np.quantile(gains[nearest, axis], self.hope)))
        return tuple(hoped)


def _usual(finished: Sequence[Curve], fold: int) -> float:
    """How many steps a training in that fold usually takes; 0 where none of them is a training by steps."""
    steps = [max((step for at, step in curve.at if at == fold), default=0) for curve in finished]
    return median([count for count in steps if count] or [0])
