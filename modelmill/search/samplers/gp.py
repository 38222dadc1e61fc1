"""Picks what promises most under a Gaussian process."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.search.surrogate.promising import promising
from modelmill.space import Space


class Gp(Sampler):
    """Bayesian optimisation: picks where a Gaussian process expects the largest improvement on the best trial.

    Strong on few trials of few settings. It costs the more, the more trials there are. Where a branch has settings of
    its own, those that a trial lacks count as standing in the middle of their range: the model is coarser there, and
    the first suggestion says so. Several objectives are mixed anew for every trial; limits are kept by a model of them.

    Jones, Schonlau, Welch (1998), https://doi.org/10.1023/A:1008306431147
    """

    startup: Annotated[int, Meta(ge=2)] = 8
    """Trials spread over the space before the model is trusted."""
    newest: Annotated[int, Meta(ge=20)] = 300
    """Trials that the model rests on at most: the best ones and the newest."""

    def __call__(self, space: Space) -> Pick:
        """Picks by a model that is fitted anew as trials come in."""
        return promising(space, self.startup, self.newest)
