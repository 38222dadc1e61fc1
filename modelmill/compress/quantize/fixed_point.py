"""Static quantization to fixed point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class FixedPoint(Compressor):
    """Compute Conv, Gemm and MatMul in 8-bit fixed point: every scale is a power of two (Qm.n), zero is in the middle.

    For hardware that shifts instead of multiplying. On a processor it is as fast as quantize.static, and less exact.

    Lin, Talathi & Annapureddy (2016), https://arxiv.org/abs/1511.06393
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    per_channel: bool = True
    """One power for each output channel of the weights, instead of one for all."""
    weight_bits: Literal[7, 8] = 7
    """7 of 8 bits keep sums exact on processors without 8-bit dot products; with 8 these may saturate there."""
    calibration: Literal["minmax", "entropy", "percentile"] = "percentile"
    """How the range of an activation is chosen from what was seen, before it is widened to the next power of two."""
    rows: Annotated[int, Meta(ge=1)] = 512
    """Training rows to calibrate on, at most."""
    smallest: Annotated[int, Meta(ge=1)] = 64
    """Weights with fewer numbers than this stay floats."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the quantized graph, or the graph as it is where nothing can be quantized."""
        from modelmill.compress.quantize.calibrate import Rounded, chosen, opened, paired, ranges
        from modelmill.compress.quantize.graphs import outcome, planned, sample, skipped
        from modelmill.compress.quantize.powers import formats, ranged, steps
        from modelmill.compress.quantize.tidy import tidy
        from modelmill.compress.quantize.weights import weights

        found = opened(model.body.value, self.smallest)
        if found is None:
            yield skipped(model, self.smallest)
            return
        proto, nodes = found
        yield planned(len(nodes), f"compute in 8 bits, weights in {self.weight_bits}, every scale a power of two")
        high = 2 ** (self.weight_bits - 1) - 1
        made = {}
        for weight in weights(proto, nodes).values():
            step = steps(weight.rows, high) if self.per_channel else steps(weight.rows.reshape(1, -1), high)[0]
            made[weight.name] = Rounded(step, weight.axis, weight.codes(step, high))
        seen = ranged(ranges(proto, chosen(proto, nodes), sample(data, self.rows, seed), self.calibration))
        graph = tidy(paired(proto, nodes, seen, per_channel=self.per_channel, reduce_range=False, rounded=made))
        said = f"compute in 8 bits, steps of weights {formats([one.steps for one in made.values()])}"
        yield outcome(model, graph, "quantize.fixed_point", len(nodes), said)
