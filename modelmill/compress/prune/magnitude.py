"""Pruning of whole channels and neurons by the size of their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from modelmill.compress.prune.channels import Choice, Cuts, Scoped
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Magnitude(Compressor, Scoped, Cuts):
    """Remove the channels and neurons with the smallest weights, then retrain.

    Sizes are taken with the batch norm folded in.

    Li et al. (2017), https://arxiv.org/abs/1608.08710
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    norm: Literal["l1", "l2"] = "l2"
    """How the size of a channel's weights is measured."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        from modelmill.network.slicing import sizes

        choice = Choice(lambda network, groups: [sizes(group, self.norm) for group in groups], self.cap)
        yield from self.pruned(model, data, task, seed, choice)
