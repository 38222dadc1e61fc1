"""Dynamic quantization: scales of activations are computed as rows come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Dynamic(Compressor):
    """Store the weights of Gemm, MatMul and LSTM as 8-bit integers, and quantize what flows into them as it comes.

    onnxruntime has no operation in integers for GRU, which stays in floats. Tables that rows are looked up in
    (embeddings) are bytes with a scale for every row.

    Krishnamoorthi (2018), https://arxiv.org/abs/1806.08342
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    per_channel: bool = True
    """One scale for each output channel of the weights, instead of one for all."""
    weight_bits: Literal[7, 8] = 7
    """7 of 8 bits keep sums exact on processors without 8-bit dot products; with 8 these may saturate there."""
    smallest: Annotated[int, Meta(ge=1)] = 64
    """Weights with fewer numbers than this stay floats."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the quantized graph, or the graph as it is where nothing can be quantized."""
        from modelmill.compress.quantize.graphs import heavy, load, outcome, planned, skipped
        from modelmill.compress.quantize.integers import place
        from modelmill.compress.quantize.matrices import matrices
        from modelmill.compress.quantize.recurrent import lowered, recurrent
        from modelmill.compress.quantize.stored import INTEGERS, IR_VERSION, upgrade
        from modelmill.compress.quantize.tables import looked_up, tabled
        from modelmill.compress.quantize.tidy import tidy

        proto = upgrade(load(model.body.value), INTEGERS, IR_VERSION)
        nodes = matrices(proto, heavy(proto, frozenset({"Gemm", "MatMul"}), self.smallest, inner=True))
        units, tables = recurrent(proto, self.smallest), looked_up(proto, self.smallest)
        count = len(nodes) + len(units) + len(tables)
        if not count:
            yield skipped(model, self.smallest, "Gemm, MatMul or LSTM")
            return
        yield planned(count, f"compute in 8 bits, weights in {self.weight_bits}")
        place(proto, nodes, self.per_channel, self.weight_bits)
        lowered(proto, units, self.per_channel, self.weight_bits)
        tabled(proto, tables)
        yield outcome(model, tidy(proto), "quantize.dynamic", count)
