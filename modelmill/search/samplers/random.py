"""Picks settings at random."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Suggestion
from modelmill.search.surrogate.encode import Encoding
from modelmill.space import Space

BLOCK = 256
"""Points of a sequence that are worked out at a time."""


class Random(Sampler):
    """Independent random picks: evenly in a range, on a logarithmic range evenly in its logarithm.

    A Sobol sequence leaves smaller gaps than chance does: its point follows from how many trials there were before,
    and from `scramble`, not from the seed. Where that point was tried already, the pick is an independent one.

    Bergstra, Bengio (2012), https://www.jmlr.org/papers/v13/bergstra12a.html;
    Sobol (1967), scrambled after Owen (1998), https://doi.org/10.1006/jcom.1998.0487
    """

    sequence: Literal["random", "sobol"] = "random"
    """Whether picks are independent, or fill the space evenly."""
    scramble: Annotated[int, Meta(ge=0)] = 0
    """Which of the many scrambled sequences it is."""

    def __call__(self, space: Space) -> Pick:
        """Picks that look at no losses."""
        if self.sequence == "random":
            return lambda history, seed: Suggestion(space.random(np.random.default_rng(seed)))
        encoding = Encoding(space)
        blocks: dict[int, Any] = {}

        def pick(history: History, seed: int) -> Suggestion:
            draw = np.random.default_rng(seed)
            if not encoding.dimensions:
                return Suggestion(space.random(draw))
            block, place = divmod(len(history), BLOCK)
            if block not in blocks:
                blocks[block] = points(len(encoding.dimensions), self.scramble, block)
            found = encoding.settings(encoding.spread(blocks[block][[place]])[0], draw)
            tried = any(space.key(one.settings) == space.key(found) for one in history)
            return Suggestion(space.random(draw) if tried else found)

        return pick


def points(width: int, scramble: int, block: int) -> Any:
    """(BLOCK, width) points of a scrambled Sobol sequence."""
    from scipy.stats.qmc import Sobol

    sequence = Sobol(width, scramble=True, seed=scramble)
    if block:
        sequence.fast_forward(block * BLOCK)
    return sequence.random(BLOCK)
