"""Picks settings that look like those of good trials and unlike those of bad ones."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.search.optuna_study import follow
from modelmill.space import Space


class Tpe(Sampler):
    """Tree-structured Parzen estimators: picks where the settings of good trials differ most from those of bad ones.

    Trials that keep the limits are better than those that do not, whatever their quality. Settings of one branch are
    modelled together.

    Bergstra, Bardenet, Bengio, Kegl (2011), https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization
    """

    startup: Annotated[int, Meta(ge=1)] = 10
    """Trials picked at random before the model is trusted."""
    candidates: Annotated[int, Meta(ge=1)] = 24
    """Draws from the model of good trials, of which the best is picked."""

    def __call__(self, space: Space) -> Pick:
        """Picks as Optuna's TPE sampler does."""
        return follow(space, self._sampler)

    def _sampler(self, seed: int) -> Any:
        """Optuna's sampler, with every setting that newer releases may change stated."""
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `group` is called experimental
            return TPESampler(
                n_startup_trials=self.startup,
                n_ei_candidates=self.candidates,
                seed=seed,
                multivariate=True,
                group=True,
                warn_independent_sampling=False,
                constant_liar=True,
            )
