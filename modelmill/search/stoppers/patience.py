"""Stops trials that no longer get better and that others have beaten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Stopper
from modelmill.history import Curve
from modelmill.search.standing import beaten, ends, stood


class Patience(Stopper):
    """Stop a trial that has not got better for some points while a finished one is nowhere worse.

    One that stands on the front of the finished trials is let go on to its end, since a stopped trial has no result.
    For trials that should end early and count, `patience` of the trainer is the place.

    Prechelt (1998), https://doi.org/10.1007/3-540-49430-8_3
    """

    points: Annotated[int, Meta(ge=1)] = 8
    """So many points without a better one, and it is taken to have come to rest."""
    least: Annotated[float, Meta(ge=0)] = 0.0
    """A gain that is no larger does not count, in the unit of the objective."""

    def __call__(self, curve: Curve, others: Sequence[Curve]) -> str:
        """A reason where it rests behind the front."""
        at = curve.at[-1]
        if len(curve.at) <= self.points or at[0] != curve.at[-1 - self.points][0]:
            return ""
        now, before = stood(curve, at), stood(curve, curve.at[-1 - self.points])
        if now is None or before is None or any(b - n > self.least for n, b in zip(now[0], before[0], strict=True)):
            return ""
        if not beaten(now[0], ends(others)):
            return ""
        return f"no better for {self.points} points, and behind the front"
