"""Static quantization to fixed point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from modelmill.compress.quantize.calibrates import Calibrates
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class FixedPoint(Compressor, Calibrates):
    """Compute Conv, Gemm and MatMul in 8-bit fixed point: every scale is a power of two (Qm.n), zero is in the middle.

    For hardware that shifts instead of multiplying. On a processor it is as fast as quantize.static, and less exact.

    Lin, Talathi & Annapureddy (2016), https://arxiv.org/abs/1511.06393
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    calibration: Literal["minmax", "entropy", "percentile"] = "percentile"
    """How the range of an activation is chosen from what was seen, before it is widened to the next power of two."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the quantized graph, or the graph as it is where nothing can be quantized."""
        from modelmill.compress.quantize.calibrate import Rounded, opened
        from modelmill.compress.quantize.graphs import outcome, planned, skipped
        from modelmill.compress.quantize.powers import formats, ranged, steps
        from modelmill.compress.quantize.tidy import tidy
        from modelmill.compress.quantize.weights import weights

        found = opened(model.body.value, self.smallest)
        if found is None:
            yield skipped(model, self.smallest)
            return
        proto, nodes = found
        yield planned(len(nodes), f"compute in 8 bits, weights in {self.weight_bits}, every scale a power of two")
        made = {}
        for weight in weights(proto, nodes).values():
            rows = weight.rows if self.per_channel else weight.rows.reshape(1, -1)
            step = steps(rows, self.high) if self.per_channel else steps(rows, self.high)[0]
            made[weight.name] = Rounded(step, weight.axis, weight.codes(step, self.high))
        seen = ranged(self.seen(proto, nodes, self.sampled(data, seed)))
        graph = tidy(self.paired(proto, nodes, seen, made))
        said = f"compute in 8 bits, steps of weights {formats([one.steps for one in made.values()])}"
        yield outcome(model, graph, "quantize.fixed_point", len(nodes), said)
