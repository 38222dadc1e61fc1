"""Changes one setting at a time of the best among the youngest trials."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Suggestion
from modelmill.search.past import order
from modelmill.search.population.mixed import mutant
from modelmill.search.population.verdict import judged
from modelmill.space import Space

KEY = "evolution"


class Evolution(Sampler):
    """Small changes of good and young candidates: strong where settings are choices, as in architectures.

    The population is the trials that ended last, whatever they were worth: the old die, so that a lucky trial has no
    children for ever. Of a few drawn at random the best has a child that differs in one setting, numbers by a small
    move; on its branch, what is new is picked at random.

    Real, Aggarwal, Huang, Le (2019), Regularized evolution for image classifier architecture search,
    https://arxiv.org/abs/1802.01548
    """

    population: Annotated[int, Meta(ge=2)] = 30
    """How many of the youngest trials may have children."""
    sample: Annotated[int, Meta(ge=1)] = 10
    """How many are drawn for a parent, of which the best is taken."""
    startup: Annotated[int, Meta(ge=1)] = 20
    """Trials picked at random before the first child."""
    eta: Annotated[float, Meta(gt=0)] = 5.0
    """The larger, the smaller the moves of numbers."""

    def __call__(self, space: Space) -> Pick:
        """Picks children of the youngest."""

        def pick(history: History, seed: int) -> Suggestion | None:
            draw = np.random.default_rng(seed)
            ended = [one for one in history[-3 * self.population :] if judged(one)]
            members = ended[-self.population :]
            if len(members) < min(self.startup, self.population):
                return Suggestion(space.random(draw))
            chosen = draw.choice(len(members), size=min(self.sample, len(members)), replace=False)
            parent = order([members[i] for i in sorted(chosen)])[0]
            settings = mutant(space, parent.settings, draw, 0.0, self.eta)
            return Suggestion(settings, {KEY: {"parent": parent.number}})

        return pick
