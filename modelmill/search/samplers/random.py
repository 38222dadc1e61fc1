"""Picks settings at random."""

from __future__ import annotations

import numpy as np

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Suggestion
from modelmill.space import Space


class Random(Sampler):
    """Independent random picks: evenly in a range, on a logarithmic range evenly in its logarithm.

    Bergstra, Bengio (2012), https://www.jmlr.org/papers/v13/bergstra12a.html
    """

    def __call__(self, space: Space) -> Pick:
        """Picks that do not look at the history."""

        def pick(history: History, seed: int) -> Suggestion:
            return Suggestion(space.random(np.random.default_rng(seed)))

        return pick
