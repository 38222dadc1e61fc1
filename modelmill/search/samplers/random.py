"""Picks settings at random."""

from __future__ import annotations

from typing import Any

from modelmill.contracts import Sampler
from modelmill.space import Walk


class Random(Sampler):
    """Independent random picks: evenly in a range, on a logarithmic range evenly in its logarithm.

    Bergstra, Bengio (2012), https://www.jmlr.org/papers/v13/bergstra12a.html
    """

    def __call__(self, walk: Walk, seed: int) -> Any:
        """Optuna's random sampler."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)
