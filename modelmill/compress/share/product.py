"""Product quantization of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import nn

    from modelmill.compress.share.looked import Maker

SEEN = 2048
"""Training rows on which the answers of layers are looked at."""


class Product(Compressor, Guided):
    """Store a few short runs of weights for each layer, and for every run in the layer the number of its own.

    With runs of 4 and 256 of them a weight takes 2 bits and its share of the table. Runs lie along the inputs of a
    neuron; of a convolution they are its kernels, or parts of them. For a network they are chosen so that what the
    layer answers changes least on training rows, and are trained again; those of a graph are chosen by the weights
    alone. It is no faster: weights are looked up once, when the model is loaded.

    Gong et al. (2014), https://arxiv.org/abs/1412.6115; Stock et al. (2020), https://arxiv.org/abs/1907.05686
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "graph"})
    gives: ClassVar[Kind | None] = "graph"

    length: Annotated[int, Meta(ge=2, le=32)] = 4
    """Weights of a run, at most; as many as fit into a row of the layer's weights a whole number of times."""
    bits: Annotated[int, Meta(ge=1, le=8)] = 8
    """A layer has at most two to the power of this many runs."""
    smallest: Annotated[int, Meta(ge=2)] = 4096
    """Weights with fewer numbers than this stay as they are: the table would be as large."""
    epochs: Annotated[int, Meta(ge=0)] = 10
    """Epochs of training the runs; 0 leaves them where clustering puts them."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    """The largest step size of training again."""
    teacher: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The share of the loss that is the distance to what the model said before; the rest comes from true targets."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Share runs of weights in a copy of the model, and yield it as a graph."""
        from modelmill.graph.export import export

        said = f"large weights will share at most {2**self.bits} runs of up to {self.length} a layer"
        yield Progress(0, 1, note=f"{said}; batch norms are folded" if model.body.kind == "network" else said)
        last = Progress(1, 1, result=model)
        if model.body.kind == "network":
            from modelmill.compress.share.looked import trained

            last = yield from trained(self, model, data, task, seed, self._maker(model, data, task, seed))
        assert last.result is not None
        yield self._stored(last, export(last.result, task), seed)

    def _maker(self, model: Model, data: Splits, task: Task, seed: int) -> Callable[[nn.Module], Maker]:
        """Given the network, what shares the runs of a layer so that its answers on training rows change least."""
        from modelmill.compress.share.runs import metrics, shareable, shared
        from modelmill.train.rows import rows, some

        def maker(network: nn.Module) -> Maker:
            lengths = shareable(network, self.length, self.smallest)
            found = metrics(network, some(rows(model, data.train, task), SEEN).features, lengths)

            def make(layer: nn.Module) -> nn.Module:
                if layer not in found:
                    return layer
                return shared(layer, lengths[layer], 2**self.bits, seed, found[layer])

            return make

        return maker

    def _stored(self, last: Progress, graph: bytes, seed: int) -> Progress:
        from modelmill.compress.share import runs
        from modelmill.compress.share.coding import coded

        return coded(
            last,
            graph,
            "share.product",
            self.smallest,
            lambda proto, name, weight: runs.coded(proto, name, weight, self.length, 2**self.bits, seed),
            bits=self.bits,
            fits=lambda weight: runs.length_of(weight.shape, self.length) > 1,
        )
