"""Spreads along the front of several objectives."""

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

KEY = "nsga2"


class Nsga2(Sampler):
    """Candidates all along the front of several objectives, those in its gaps first.

    The population holds the trials that are beaten in the fewest layers, and of one layer those with the most room
    around them; what keeps the limits stands before what does not. Parents win tournaments of two, have a child by
    simulated binary crossover, and one setting of it is moved by polynomial mutation on average. A trial joins as it
    ends, without generations, so that no worker waits.

    Deb, Pratap, Agarwal, Meyarivan (2002), https://doi.org/10.1109/4235.996017; steady state Durillo et al. (2009),
    https://doi.org/10.1007/978-3-642-01020-0_18
    """

    population: Annotated[int, Meta(ge=4)] = 24
    """How many trials may have children; as many are picked at random at first."""
    crossover: Annotated[float, Meta(ge=0, le=1)] = 0.9
    """How often a child has two parents."""
    eta_crossover: Annotated[float, Meta(gt=0)] = 15.0
    """The larger, the nearer children lie to a parent."""
    eta_mutation: Annotated[float, Meta(gt=0)] = 20.0
    """The larger, the smaller the moves."""

    def __call__(self, space: Space) -> Pick:
        """Picks children of the population that the trials so far have left."""
        replay = Replay[Members](tuple, lambda members, one: survivors(members, one, self.population))

        def pick(history: History, seed: int) -> Suggestion | None:
            members, draw = replay(history), np.random.default_rng(seed)
            if len(members) < self.population:
                return Suggestion(space.random(draw))
            one, two = (tournament(members, 2, draw) for _ in range(2))
            both = one is not two and draw.random() < self.crossover
            mixed = child(space, one.settings, two.settings, draw, self.eta_crossover) if both else one.settings
            settings = mutant(space, mixed, draw, 1.0, self.eta_mutation)
            return Suggestion(settings, {KEY: {"parents": [one.number, two.number] if both else [one.number]}})

        return pick
