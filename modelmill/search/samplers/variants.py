"""Varies what comes after training on good trials."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Past, Suggestion
from modelmill.search.past import order
from modelmill.space import Dimension, Settings, Space

TRIES = 40
"""Variants that are looked at; all of them tried: it is another sampler's turn."""


class Variants(Sampler):
    """Takes a good trial and picks anew what comes after its training, so that the training is not repeated.

    A network is compressed in many ways for the price of training it once. Alone it is random search until trials have
    ended; it is meant as a member of a portfolio, which leaves it out where nothing comes after training.

    Good trials are those that stand first, front by front; one that misses a limit may keep it when it is compressed.
    """

    good: Annotated[int, Meta(ge=1)] = 8
    """So many trials count as good."""
    change: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """With which chance each of the settings is picked anew; others stay as they are."""

    def suits(self, space: Space) -> bool:
        """Whether anything comes after training."""
        return any(dimension.late for dimension in space.dimensions)

    def __call__(self, space: Space) -> Pick:
        """Picks a variant that was not tried; None where there is none left, and the trials were good for some."""

        def pick(history: History, seed: int) -> Suggestion | None:
            draw = np.random.default_rng(seed)
            parents = [one for one in order(history) if one.scored][: self.good]
            if not parents or not self.suits(space):
                return Suggestion(space.random(draw))
            tried = {space.key(one.settings) for one in history}
            for _ in range(TRIES):
                parent = parents[draw.integers(len(parents))]
                found = self._varied(space, parent, draw)
                if space.key(found) not in tried:
                    return Suggestion(found, like=parent.number if parent.like is None else parent.like)
            return None

        return pick

    def _varied(self, space: Space, parent: Past, draw: np.random.Generator) -> Settings:
        def choose(dimension: Dimension) -> object:
            known = dimension.name in parent.settings
            if known and not (dimension.late and draw.random() < self.change):
                return parent.settings[dimension.name]
            return dimension.random(draw)

        return space.answered(choose)
