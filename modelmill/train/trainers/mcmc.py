"""Stochastic-gradient Langevin dynamics: an average over the weights that the data leave possible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from modelmill.contracts import Judge, Task, Trainer
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.train.chains.draws import Draws
from modelmill.trial import Progress


class Mcmc(Trainer, Draws):
    """Draw networks from the posterior of the weights, and answer with the mean of their probabilities or values.

    Steps go down the slope with noise added, and their size falls in cycles: large ones find another place, small ones
    draw from it. During burn-in the size adapts: it is lowered until batches add no more than `batch_noise` to the
    noise that is meant. The result is one network that holds `members` others, and costs as much as they do;
    `distill` makes one of it. Draws are kept in `store`, from where the same call goes on; whether chains have
    converged is said at the end. Nothing is dropped while training, whatever the arch says.

    Welling & Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics; Zhang et al. (2020),
    https://arxiv.org/abs/1902.03932
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    def __call__(
        self, model: Model, data: Splits, task: Task, judge: Judge, seed: int, checkpoint: Path | None = None
    ) -> Iterator[Progress]:
        """Draw from the posterior of a copy of the model; a `checkpoint` is a folder in place of the store."""
        from modelmill.train.chains.sampling import Sampling

        return Sampling(model, data, task, self, seed, checkpoint).run()
