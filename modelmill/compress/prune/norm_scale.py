"""Pruning of whole channels and neurons by the scale of their batch norm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.prune.channels import Choice, Cuts, Scoped
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class NormScale(Compressor, Scoped, Cuts):
    """Remove the channels with the smallest batch norm scales, after a training that makes scales small.

    Channels without a batch norm stay; a network that has none comes through as it is. (Network slimming.)

    Liu et al. (2017), https://arxiv.org/abs/1708.06519
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    penalty: Annotated[float, Meta(ge=0)] = 1e-3
    """How much the sum of all scales counts in the loss of the training before the cut."""
    penalty_epochs: Annotated[int, Meta(ge=0)] = 10
    """Epochs of that training; 0 judges the scales as they are."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Make scales small, prune and retrain a copy of the model."""
        from modelmill.compress.prune.penalty import penalized
        from modelmill.compress.prune.scales import scaled, scales, total

        def slimmed(model: Model) -> Iterator[Progress]:
            training = self.replace(epochs=self.penalty_epochs).training(model, data, task, seed)
            return penalized(training, lambda network: self.penalty * total(network), "prune.norm_scale: small scales")

        before = slimmed if self.penalty and self.penalty_epochs else None
        choice = Choice(lambda network, groups: [scales(group) for group in groups], self.cap, scaled, before)
        yield from self.pruned(model, data, task, seed, choice)
