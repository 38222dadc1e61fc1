"""Draws parts of a large trained network."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Generator, Pick
from modelmill.errors import SpecError
from modelmill.history import History, Suggestion
from modelmill.search.generated import architecture
from modelmill.search.past import order
from modelmill.space import Dimension, Settings, Space


class Subnetworks(Generator):
    """Parts of a trained network: the whole of it, the smallest one, random ones, then kin of the best.

    What differs are the blocks and widths that stay. The whole and the smallest come first, since what lies between is
    seldom better or cheaper (the sandwich rule). Kin are children of two of the best, changed in few places.

    Yu, Huang (2019), https://arxiv.org/abs/1903.05134; Cai, Gan, Wang, Zhang, Han (2020), https://arxiv.org/abs/1908.09791
    """

    startup: Annotated[int, Meta(ge=2)] = 10
    """Trials before the best have kin."""
    parents: Annotated[int, Meta(ge=1)] = 8
    """How many of the best may have kin."""
    change: Annotated[float, Meta(ge=0, le=1)] = 0.15
    """The probability that a setting of a child is picked anew."""

    def __call__(self, space: Space) -> Pick:
        """Draws of subnetworks. Raises SpecError where the arch leaves no block and no width open."""
        every = architecture(space)
        if not any(".blocks." in one.name or ".widths." in one.name for one in every):
            raise SpecError(
                "search.generator.subnetworks",
                "the arch leaves no blocks or widths of a trained network open",
                'Write [arch] method = "subnetwork" with ranges in `blocks` and `widths`.',
            )

        def pick(history: History, seed: int) -> Suggestion:
            random = np.random.default_rng(seed)
            best = [one.settings for one in order(history) if one.scored][: self.parents]
            if len(history) < 2:
                return Suggestion({one.name: one.at(1.0 - len(history)) for one in every})
            if len(history) < self.startup or not best:
                return Suggestion({one.name: one.random(random) for one in every})
            mother, father = (best[int(random.integers(len(best)))] for _ in range(2))
            return Suggestion({one.name: self._gene(one, mother, father, random) for one in every})

        return pick

    def _gene(self, one: Dimension, mother: Settings, father: Settings, random: np.random.Generator) -> Any:
        parent = mother if random.random() < 0.5 else father
        anew = random.random() < self.change or one.name not in parent
        return one.random(random) if anew else parent[one.name]
