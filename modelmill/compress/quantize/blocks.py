"""Quantization of weights alone, in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Blocks(Compressor):
    """Store the weights of Gemm and MatMul in 4 or 8 bits, with a scale for every block of inputs; no calibration.

    onnxruntime computes on the packed weights (MatMulNBits), with inputs that it rounds to 8 bits as they come.
    Convolutions stay floats; tables that rows are looked up in (embeddings) take 8 bits, with a scale for every row.
    The file needs opset 21.

    Dettmers & Zettlemoyer (2023), https://arxiv.org/abs/2212.09720
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    bits: Literal[4, 8] = 4
    """Bits of a weight."""
    block: Literal[16, 32, 64, 128] = 32
    """Inputs that share a scale: fewer are more exact, and need more bytes."""
    symmetric: bool = True
    """Whether zero is in the middle of the grid; else every block stores where it is."""
    smallest: Annotated[int, Meta(ge=1)] = 256
    """Weights with fewer numbers than this stay floats."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the graph with weights in blocks, or as it is where no weight is worth it."""
        from modelmill.compress.quantize.blocked import place
        from modelmill.compress.quantize.graphs import heavy, load, outcome, planned, skipped
        from modelmill.compress.quantize.matrices import matrices
        from modelmill.compress.quantize.stored import upgrade
        from modelmill.compress.quantize.tables import looked_up, tabled
        from modelmill.compress.quantize.tidy import tidy

        proto = load(model.body.value)
        nodes = matrices(proto, heavy(proto, frozenset({"Gemm", "MatMul"}), self.smallest, inner=True))
        tables = looked_up(proto, self.smallest)
        count = len(nodes) + len(tables)
        if not count:
            yield skipped(model, self.smallest, "Gemm or MatMul")
            return
        yield planned(count, f"read weights of {self.bits} bits in blocks of {self.block}")
        proto = upgrade(proto)
        place(proto, nodes, self.bits, self.block, self.symmetric)
        tabled(proto, tables)
        yield outcome(model, tidy(proto), "quantize.blocks", count, f"read weights of {self.bits} bits")
