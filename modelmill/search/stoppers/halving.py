"""Stops, at a few points of their courses, all trials but the best part of those that got there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Stopper
from modelmill.history import Curve
from modelmill.search.standing import beaten, ranked, stood


class Halving(Stopper):
    """Successive halving without waiting: at each rung, a trial goes on if it is among the best part of those there.

    Rungs lie at `least`, `least * factor`, `least * factor**2` and so on steps of the first fold, and at 1, `factor`
    and so on folds.
    With several objectives trials stand in the order of their fronts, and within a front by the hypervolume that each
    adds; those that miss limits stand behind. A trial is never started again: it is stopped, not paused.

    Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar (2020), https://arxiv.org/abs/1810.05934,
    in the form that stops (section 3.2 there promotes); several objectives: Schmucker, Donini, Zafar, Salinas,
    Archambeau (2021), https://arxiv.org/abs/2106.12639
    """

    least: Annotated[int, Meta(ge=1)] = 2
    """Steps that every trial may take."""
    factor: Annotated[float, Meta(gt=1, le=16)] = 3.0
    """One in so many goes on from a rung to the next, which lies so many times as far."""
    spare: bool = True
    """Whether a trial that no other beats there goes on in any case: there may be more of them than places."""

    def __call__(self, curve: Curve, others: Sequence[Curve]) -> str:
        """A reason where a rung was reached and the trial is not among its best."""
        at = curve.at[-1]
        if not self.rung(curve) or (own := stood(curve, at)) is None:
            return ""
        there = [found for other in others if (found := stood(other, at)) is not None]
        going_on = int((len(there) + 1) / self.factor)
        if going_on < 1:
            return ""
        if self.spare and not own[1] and not beaten(own[0], [losses for losses, miss in there if not miss]):
            return ""
        place = ranked([own, *there]).index(0)
        if place < going_on:
            return ""
        return f"number {place + 1} of {len(there) + 1} at this rung, from which {going_on} go on"

    def rung(self, curve: Curve) -> bool:
        """Whether the last point is the first at or beyond a rung."""
        now = curve.at[-1]
        before = curve.at[-2] if len(curve.at) > 1 else (0, 0)
        if now[0] and not now[1]:
            return self._rungs_passed(now[0], 1) > self._rungs_passed(before[0], 1)
        passed = before[1] if before[0] == now[0] else 0
        return now[0] == 0 and self._rungs_passed(now[1], self.least) > self._rungs_passed(passed, self.least)

    def _rungs_passed(self, reached: int, least: int) -> int:
        """How many rungs lie at or below so many steps or folds."""
        count, rung = 0, float(least)
        while int(rung) <= reached:
            count, rung = count + 1, rung * self.factor
        return count
