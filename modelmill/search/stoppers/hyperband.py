"""Successive halving with several first rungs side by side, for learners that are slow to show what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Stopper
from modelmill.history import Curve
from modelmill.search.seeds import derive
from modelmill.search.stoppers.halving import Halving


class Hyperband(Stopper):
    """Halving in brackets: some trials meet their first rung early, others only after `factor` times as many steps.

    A trial's bracket follows from its number, and it stands beside the trials of its own bracket alone.

    Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar (2018), https://jmlr.org/papers/v18/16-558.html, with the brackets
    filled side by side as in Li et al. (2020), https://arxiv.org/abs/1810.05934
    """

    least: Annotated[int, Meta(ge=1)] = 1
    """Steps that every trial of the first bracket may take."""
    factor: Annotated[float, Meta(gt=1, le=16)] = 3.0
    """One in so many goes on from a rung to the next, which lies so many times as far."""
    brackets: Annotated[int, Meta(ge=1, le=8)] = 3
    """How many brackets there are."""

    def __call__(self, curve: Curve, others: Sequence[Curve]) -> str:
        """A reason where it is not among the best of its bracket at a rung."""
        own = self.bracket(curve.number)
        steps = max(1, round(self.least * self.factor**own))
        why = Halving(least=steps, factor=self.factor)(
            curve, [other for other in others if self.bracket(other.number) == own]
        )
        return f"{why} (bracket {own + 1})" if why else ""

    def bracket(self, number: int) -> int:
        """The bracket of a trial, from 0; as many trials in each as the paper gives it."""
        last = self.brackets - 1
        weights = [self.brackets / (last - i + 1) * self.factor ** (last - i) for i in range(self.brackets)]
        share = derive(0, "bracket", number) / 2**32 * sum(weights)
        for place, weight in enumerate(weights):
            share -= weight
            if share < 0:
                return place
        return last
