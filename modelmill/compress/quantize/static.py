"""Static quantization: scales of activations are fixed from sample rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Static(Compressor):
    """Store weights and compute Conv, Gemm and MatMul in 8-bit integers, with scales calibrated on training rows.

    Jacob et al. (2018), https://arxiv.org/abs/1712.05877
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    per_channel: bool = True
    """One scale for each output channel of the weights, instead of one for all."""
    weight_bits: Literal[7, 8] = 7
    """7 of 8 bits keep sums exact on processors without 8-bit dot products; with 8 these may saturate there."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    """How the range of an activation is chosen from what was seen."""
    rows: Annotated[int, Meta(ge=1)] = 512
    """Training rows to calibrate on, at most."""
    preprocess: bool = True
    """Fuse batch norms and infer shapes first."""
    smallest: Annotated[int, Meta(ge=1)] = 64
    """Weights with fewer numbers than this stay floats."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the quantized graph, or the graph as it is where nothing can be quantized."""
        from modelmill.compress.quantize.calibrate import chosen, opened, paired, ranges
        from modelmill.compress.quantize.graphs import outcome, planned, sample, skipped
        from modelmill.compress.quantize.tidy import tidy

        found = opened(model.body.value, self.smallest, self.preprocess)
        if found is None:
            yield skipped(model, self.smallest)
            return
        proto, nodes = found
        yield planned(len(nodes), f"compute in 8 bits, weights in {self.weight_bits}")
        seen = ranges(proto, chosen(proto, nodes), sample(data, self.rows, seed), self.calibration)
        made = paired(proto, nodes, seen, per_channel=self.per_channel, reduce_range=self.weight_bits == 7)
        yield outcome(model, tidy(made), "quantize.static", len(nodes))
