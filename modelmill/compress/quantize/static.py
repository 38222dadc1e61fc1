"""Static quantization: scales of activations are fixed from sample rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from modelmill.compress.quantize.calibrates import Calibrates
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Static(Compressor, Calibrates):
    """Store weights and compute Conv, Gemm and MatMul in 8-bit integers, with scales calibrated on training rows.

    Jacob et al. (2018), https://arxiv.org/abs/1712.05877
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    preprocess: bool = True
    """Fuse batch norms and infer shapes first."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the quantized graph, or the graph as it is where nothing can be quantized."""
        from modelmill.compress.quantize.calibrate import opened
        from modelmill.compress.quantize.graphs import outcome, planned, skipped
        from modelmill.compress.quantize.tidy import tidy

        found = opened(model.body.value, self.smallest, self.preprocess)
        if found is None:
            yield skipped(model, self.smallest)
            return
        proto, nodes = found
        yield planned(len(nodes), f"compute in 8 bits, weights in {self.weight_bits}")
        made = self.paired(proto, nodes, self.seen(proto, nodes, self.sampled(data, seed)))
        yield outcome(model, tidy(made), "quantize.static", len(nodes))
