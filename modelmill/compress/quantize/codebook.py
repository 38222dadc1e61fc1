"""Weight sharing by a codebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Array, Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import nn


class Codebook(Compressor, Guided):
    """Store a few values for each layer, and for every weight the number of its value.

    Values are found by k-means and trained again by the summed gradients of their weights; a graph is not trained.
    Zeros stay zeros. A weight takes 4 bits, or 8 where `bits` are more. It is no faster: weights are looked up
    once.

    Han, Mao & Dally (2016), https://arxiv.org/abs/1510.00149
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "graph"})
    gives: ClassVar[Kind | None] = "graph"

    bits: Annotated[int, Meta(ge=1, le=8)] = 4
    """A layer has at most two to the power of this many values."""
    smallest: Annotated[int, Meta(ge=1)] = 256
    """Weights with fewer numbers than this stay as they are."""
    precision: Annotated[int, Meta(ge=0, le=24)] = 0
    """Biases of shared layers are rounded to so many significant bits, so that they pack better; 0 leaves them."""
    epochs: Annotated[int, Meta(ge=0)] = 10
    """Epochs of training the values; 0 leaves them where k-means puts them."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    """The largest step size of training again."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Share the weights of a copy of the model, and yield it as a graph."""
        from modelmill.compress.share.looked import trained
        from modelmill.graph.export import export

        said = f"large weights will share at most {2**self.bits} values a layer"
        yield Progress(0, 1, note=f"{said}; batch norms are folded" if model.body.kind == "network" else said)
        last = Progress(1, 1, result=model)
        if model.body.kind == "network":
            last = yield from trained(self, model, data, task, seed, lambda network: self._share)
        assert last.result is not None
        yield self._stored(last, export(last.result, task))

    def _share(self, layer: nn.Module) -> nn.Module:
        from modelmill.compress.quantize.sharing import shared

        return shared(layer, 2**self.bits) if layer.weight.numel() >= self.smallest else layer

    def _stored(self, last: Progress, graph: bytes) -> Progress:
        from modelmill.compress.quantize.sharing import coded as shared
        from modelmill.compress.quantize.sharing import round_biases
        from modelmill.compress.share.coding import coded

        def coder(proto: Any, name: str, weight: Array) -> int:
            if self.precision:
                round_biases(proto, name, self.precision)
            return shared(proto, name, weight, 2**self.bits)

        return coded(last, graph, "quantize.codebook", self.smallest, coder, self.bits)
