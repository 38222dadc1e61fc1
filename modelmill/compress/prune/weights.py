"""Pruning of single weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

HONESTY = "zeros are stored like other numbers: the file is smaller only once it is packed, and no faster"


class Weights(Compressor, Retrains):
    """Set the smallest weights to zero, more of them with every epoch of retraining.

    Zhu & Gupta (2018), https://arxiv.org/abs/1710.01878, equation 1
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.8
    """The share of weights that end as zeros."""
    scope: Literal["local", "global"] = "global"
    """Whether every layer loses that share, or all layers together."""
    epochs: Annotated[int, Meta(ge=0)] = 20
    """Epochs of retraining; in the first half the share grows. 0 cuts at once and does not retrain."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        from modelmill.compress.prune.masking import masks, share, zeros

        training = self.training(model, data, task, seed)
        if self.epochs:
            training.mask(masks(training.module, share(self.ratio, 0, training.epochs), self.scope))
        for progress in training.run():
            yield progress
            wanted = share(self.ratio, training.epoch, training.epochs)
            if not training.plan.over and wanted > zeros(training.module):
                training.mask(masks(training.module, wanted, self.scope))
        if zeros(training.module) < self.ratio:
            training.mask(masks(training.module, self.ratio, self.scope))
        last = training.finish(f"prune.weights: {zeros(training.module):.0%} zeros; retrain.adam")
        yield replace(last, note="; ".join(filter(None, (last.note, HONESTY))))
