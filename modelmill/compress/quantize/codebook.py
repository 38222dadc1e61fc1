"""Weight sharing by a codebook."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

HONESTY = "onnxruntime looks the weights up once, when it loads the model: size only, no faster"


class Codebook(Compressor, Guided):
    """Store a few values for each layer, and for every weight the number of its value.

    Values are found by k-means and trained again by the summed gradients of their weights; a graph is not trained.
    Zeros stay zeros. Up to 16 values take 4 bits a weight, more take 8. It is no faster: weights are looked up once.

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
        from modelmill.graph.export import export

        said = f"large weights will share at most {2**self.bits} values a layer"
        yield Progress(0, 1, note=f"{said}; batch norms are folded" if model.body.kind == "network" else said)
        last = Progress(1, 1, result=model)
        if model.body.kind == "network":
            last = yield from self._trained(model, data, task, seed)
        assert last.result is not None
        yield self._stored(last, model, export(last.result, task))

    def _trained(self, model: Model, data: Splits, task: Task, seed: int) -> Generator[Progress, None, Progress]:
        """The last Progress of training shared weights, whose result is a network again."""
        from modelmill.compress.quantize.insert import folded
        from modelmill.compress.quantize.sharing import scale, settled, shared

        network = shared(folded(model.body.value), 2**self.bits, self.smallest)
        guidance = self.guidance(model, data, task)
        training = self.training(model.with_body(network, "network", ""), data, task, seed, guidance)
        scale(training.module, 1 / training.unit.deviation)
        yield from training.run()
        last = training.finish("retrain.adam")
        assert last.result is not None
        body = last.result.body.value
        scale(body, training.unit.deviation)
        return replace(last, result=model.with_body(settled(body), "network", last.result.history[-1]))

    def _stored(self, last: Progress, model: Model, graph: bytes) -> Progress:
        from modelmill.compress.quantize.graphs import load
        from modelmill.compress.quantize.sharing import coded, round_biases
        from modelmill.compress.quantize.stored import large, upgrade
        from modelmill.compress.quantize.tidy import tidy

        assert last.result is not None
        proto = load(graph)
        weights = large(proto, self.smallest)
        if not weights:
            note = f"nothing to share: no weight has {self.smallest} numbers or more"
            return replace(last, note=note, result=last.result.with_body(graph, "graph", note))
        if self.bits <= 4:
            proto = upgrade(proto)
        if self.precision:
            round_biases(proto, set(weights), self.precision)
        counts = [coded(proto, name, weight, 2**self.bits) for name, weight in weights.items()]
        made = tidy(proto)
        note = f"{len(counts)} weights share at most {max(counts)} values; {len(graph)} to {len(made)} bytes; {HONESTY}"
        values = {**last.values, "size_bytes": float(len(made)), "size_bytes_before": float(len(graph))}
        result = last.result.with_body(made, "graph", f"quantize.codebook: {note}")
        return replace(last, values=values, note="; ".join(filter(None, (last.note, note))), result=result)
