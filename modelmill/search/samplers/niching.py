"""Keeps several optima alive, and climbs all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Past, Suggestion
from modelmill.search.population.coordinates import Coordinates
from modelmill.search.population.niches import RADIUS, Batch, Ground, Keep, Niches, ask, start, tell
from modelmill.search.population.replay import Replay
from modelmill.search.population.verdict import judged, verdict
from modelmill.space import Space

KEY = "niching"


class Niching(Sampler):
    """Several good and different candidates instead of one: children compete with what is near them alone.

    Every member of the population climbs by steps of a length of its own; other children recombine two members, or
    add the difference of two to a third. With crowding a step competes with its parent, and a new start with the
    member that is nearest by Gower's distance: what is better than all around it stays, however good others are
    elsewhere. Where two have climbed to the same optimum, or one is done climbing, its place is free for a new start.
    With sharing and clearing the population is cut to those that are good for how many there are around them. For many
    optima take a large population: about one member for 400 trials.

    Crowding after Mahfoud (1995), https://hdl.handle.net/2142/81945; sharing Goldberg, Richardson (1987); clearing
    Petrowski (1996), https://doi.org/10.1109/ICEC.1996.542703
    """

    population: Annotated[int, Meta(ge=4)] = 20
    """How many members there are."""
    keep: Keep = "crowding"
    """How a place in the population is fought for."""
    radius: Annotated[float, Meta(ge=0, le=1)] = 0
    """The distance within which two are at the same optimum; 0: 0.005 with crowding, else 0.1."""
    precision: Annotated[float, Meta(gt=0, lt=1)] = 1e-6
    """The part of a range below which steps are not worth making."""

    def __call__(self, space: Space) -> Pick:
        """Picks from the population that the trials so far have led to."""
        at = Coordinates(space)
        radius = self.radius or RADIUS[self.keep]
        ground = Ground(at.category, at.grain, self.population, self.keep, radius, self.precision)
        replay = Replay(lambda: start(ground), lambda state, one: _step(at, ground, state, one))

        def pick(history: History, seed: int) -> Suggestion | None:
            draw = np.random.default_rng(seed)
            child = ask(replay(history), ground, draw, 1)
            return Suggestion(at.settings(child.points[0], draw), {KEY: {"parent": int(child.parents[0])}})

        return pick


def _step(at: Coordinates, ground: Ground, state: Niches, one: Past) -> Niches:
    if not judged(one):
        return state
    objectives = max(state.verdicts.shape[1] - 1, len(one.losses))
    blank = np.zeros((len(state.verdicts), objectives + 1 - state.verdicts.shape[1]))
    state = replace(state, verdicts=np.concatenate([state.verdicts, blank], axis=1))
    parent = one.memo.get(KEY, {}).get("parent", -1)
    batch = Batch(at.point(one.settings)[None], np.array([parent]))
    return tell(state, ground, batch, np.array([verdict(one, objectives)]), first=one.number)
