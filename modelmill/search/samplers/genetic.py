"""Recombines and mutates the settings of good trials."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Suggestion
from modelmill.search.population.mixed import child, mutant
from modelmill.search.population.replay import Replay
from modelmill.search.population.survivors import Members, survivors, tournament
from modelmill.space import Space

KEY = "genetic"


class Genetic(Sampler):
    """Children of the best trials so far: two parents' settings mixed, and a few of them moved.

    There are no generations: a child whose trial ends replaces the worst of the population if it is better, so that
    the best are never lost and no worker waits. Parents are the winners of tournaments; numbers are blended by
    simulated binary crossover and moved by polynomial mutation, all else is taken from one parent or drawn again.
    Branches are repaired: what a child's branch needs and no parent has is picked at random.

    Steady state after Whitley (1989), https://dl.acm.org/doi/10.5555/93126.93169; operators Deb, Agrawal (1995),
    https://www.complex-systems.com/abstracts/v09_i02_a02/
    """

    population: Annotated[int, Meta(ge=2)] = 16
    """How many trials may have children; as many are picked at random at first."""
    tournament: Annotated[int, Meta(ge=1)] = 3
    """How many are drawn for a parent, of which the best is taken."""
    crossover: Annotated[float, Meta(ge=0, le=1)] = 0.8
    """How often a child has two parents."""
    moves: Annotated[float, Meta(ge=0)] = 1.0
    """How many settings of a child are moved on average."""
    eta: Annotated[float, Meta(gt=0)] = 10.0
    """The larger, the nearer children stay to their parents."""

    def __call__(self, space: Space) -> Pick:
        """Picks children of the population that the trials so far have left."""
        replay = Replay[Members](tuple, lambda members, one: survivors(members, one, self.population))

        def pick(history: History, seed: int) -> Suggestion | None:
            members, draw = replay(history), np.random.default_rng(seed)
            if len(members) < self.population:
                return Suggestion(space.random(draw))
            one, two = (tournament(members, self.tournament, draw) for _ in range(2))
            both = one is not two and draw.random() < self.crossover
            mixed = child(space, one.settings, two.settings, draw, self.eta) if both else one.settings
            moved = draw.random() < min(self.moves, 1.0) or not both
            settings = mutant(space, mixed, draw, max(self.moves, 1.0), self.eta) if moved else mixed
            return Suggestion(settings, {KEY: {"parents": [one.number, two.number] if both else [one.number]}})

        return pick
