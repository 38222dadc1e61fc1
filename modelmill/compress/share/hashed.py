"""Hashed weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import nn


class Hashed(Compressor, Guided):
    """Store a short table of numbers for each layer; a hash of its place says which of them a weight is.

    Nothing is stored of where the numbers go: the graph works the hash out when it is loaded. The numbers are trained,
    and have much to learn anew, so that it takes epochs. It is no faster: weights are looked up once.

    Chen et al. (2015), https://arxiv.org/abs/1504.04788
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})
    gives: ClassVar[Kind | None] = "graph"

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.125
    """Numbers of a table as a share of the weights that it stands for."""
    smallest: Annotated[int, Meta(ge=2)] = 1024
    """Weights with fewer numbers than this stay as they are: the operations of the hash take some 400 bytes."""
    epochs: Annotated[int, Meta(ge=0)] = 30
    """Epochs of training the numbers; without any, little is left of the model."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 5e-3
    """The largest step size of training again."""
    teacher: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The share of the loss that is the distance to what the model said before; the rest comes from true targets."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Hash the weights of a copy of the model, train the tables, and yield it as a graph."""
        from modelmill.compress.share import hashing
        from modelmill.compress.share.coding import coded
        from modelmill.compress.share.looked import trained
        from modelmill.graph.export import export

        note = f"large weights will share tables of {self.ratio:.3g} times their length; batch norms are folded"
        yield Progress(0, self.epochs, note=note)

        def make(layer: nn.Module) -> nn.Module:
            size = layer.weight.numel()
            return hashing.shared(layer, self._count(size)) if size >= self.smallest else layer

        last = yield from trained(self, model, data, task, seed, lambda network: make)
        assert last.result is not None
        graph = export(last.result, task)
        yield coded(
            last,
            graph,
            "share.hashed",
            self.smallest,
            lambda proto, name, weight: hashing.coded(proto, name, weight, self._count(weight.size)),
        )

    def _count(self, size: int) -> int:
        return max(1, round(self.ratio * size))
