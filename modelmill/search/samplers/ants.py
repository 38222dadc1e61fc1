"""Follows the trails of the best trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Past, Suggestion
from modelmill.search.past import order
from modelmill.search.population.coordinates import grain
from modelmill.search.population.mixed import movable
from modelmill.search.population.replay import Replay
from modelmill.search.population.survivors import Members, survivors
from modelmill.search.population.verdict import judged
from modelmill.space import Dimension, Space

Array = np.ndarray[Any, Any]

KEY = "ants"


class Ants(Sampler):
    """Settings near those of an archive of the best trials, as spread as the archive itself.

    For numbers and ordered values an ant takes one solution of the archive, the better the likelier, and draws around
    it as widely as the others lie from it on average. A category is drawn by the solutions that have it: the better
    and the fewer they are, the likelier, and those that none has are never forgotten. A setting of one branch is
    judged among the solutions on that branch. When the best has not changed for long, the archive starts anew around
    it, and random trials fill it.

    Socha, Dorigo (2008), https://doi.org/10.1016/j.ejor.2006.06.046; categories and ordered values Liao, Socha, Montes
    de Oca, Stuetzle, Dorigo (2014), https://doi.org/10.1109/TEVC.2013.2281531
    """

    archive: Annotated[int, Meta(ge=3)] = 12
    """How many solutions leave trails; as many trials are picked at random at first."""
    q: Annotated[float, Meta(gt=0)] = 0.05
    """How much the better solutions are preferred; the smaller, the more."""
    xi: Annotated[float, Meta(gt=0)] = 0.7
    """How widely ants stray: by this part of the mean distance to the other solutions."""
    patience: Annotated[int, Meta(ge=1)] = 150
    """Trials without a new best after which the archive starts anew."""

    def __call__(self, space: Space) -> Pick:
        """Picks along the trails that the trials so far have left."""
        replay = Replay(lambda: Trails(()), lambda trails, one: self._step(trails, one))

        def pick(history: History, seed: int) -> Suggestion | None:
            trails, draw = replay(history), np.random.default_rng(seed)
            members = trails.members
            if len(members) < self.archive:
                return Suggestion(space.random(draw))
            weights = rank_weights(len(members), self.q)
            guide = int(draw.choice(len(members), p=weights))
            met = [{dimension.key for dimension in space.met(one.settings)} for one in members]

            def choose(dimension: Dimension) -> Any:
                there = [i for i in range(len(members)) if dimension.key in met[i]]
                if not there or not movable(dimension):
                    return dimension.random(draw)
                values = [members[i].settings[dimension.name] for i in there]
                if dimension.kind == "category":
                    chances = option_chances(dimension, values, weights[there], self.q)
                    return dimension.options[int(draw.choice(len(chances), p=chances))]
                if guide in there:
                    centre = there.index(guide)
                else:
                    centre = int(draw.choice(len(there), p=weights[there] / weights[there].sum()))
                return self._near(dimension, values, centre, draw)

            return Suggestion(space.answered(choose), {KEY: {"guide": members[guide].number}})

        return pick

    def _near(self, dimension: Dimension, values: Sequence[Any], centre: int, draw: np.random.Generator) -> Any:
        """A value around one of some; mirrored at the ends of the range."""
        units = np.array([dimension.unit(value) for value in values])
        spread = self.xi * np.abs(units - units[centre]).sum() / max(len(units) - 1, 1)
        found = units[centre] + max(spread, grain(dimension) / 2, 1e-9) * draw.standard_normal()
        return dimension.at(abs(found) if found < 1 else 2 - found)

    def _step(self, trails: Trails, one: Past) -> Trails:
        if not judged(one):
            return trails
        members = survivors(trails.members, one, self.archive)
        best = trails.best
        if best is None or order((best, one))[0] is one:
            return Trails(members, one, 0)
        if trails.idle + 1 < self.patience:
            return Trails(members, best, trails.idle + 1)
        return Trails((best,), best, 0)


@dataclass(frozen=True)
class Trails:
    """The archive, and for how many trials the best has been the best."""

    members: Members
    best: Past | None = None
    idle: int = 0


def rank_weights(count: int, q: float) -> Array:
    """(count,) how likely each solution is to guide an ant, best first; they sum to 1.

    >>> rank_weights(2, q=0.5).round(3).tolist()
    [0.622, 0.378]
    """
    raw = np.exp(-(np.arange(count) ** 2) / (2 * q * q * count * count))
    return np.asarray(raw / raw.sum())


def option_chances(dimension: Dimension, values: Sequence[Any], weights: Array, q: float) -> Array:
    """(options,) how likely each is, given what solutions have and how much they weigh.

    w = (weight of the best that has it) / (how many have it) + q / (options that none has), for those that are had;
    the second term alone for the others.
    """
    count = len(dimension.options)
    had = [[weight for value, weight in zip(values, weights, strict=True) if value == one] for one in dimension.options]
    unused = sum(not one for one in had)
    floor = q / unused if unused else q / count
    raw = np.array([max(one) / len(one) / math.fsum(weights) + floor if one else floor for one in had])
    return np.asarray(raw / raw.sum())
