"""Static quantization after scale was moved from activations to weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Smooth(Compressor):
    """Compute in 8-bit integers with channels evened out first: what is too large in activations goes to the weights.

    A channel is scaled where a layer or a norm makes it and layers alone read it; elsewhere it stays. In floats the
    answers are the same, and no operation is added.

    Xiao et al. (2023), https://arxiv.org/abs/2211.10438, equation 4
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    alpha: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """How much of the difference goes to the weights: 0 evens out the weights, 1 the activations."""
    per_channel: bool = True
    """One scale for each output channel of the weights, instead of one for all."""
    weight_bits: Literal[7, 8] = 7
    """7 of 8 bits keep sums exact on processors without 8-bit dot products; with 8 these may saturate there."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    """How the range of an activation is chosen from what was seen."""
    rows: Annotated[int, Meta(ge=1)] = 512
    """Training rows to calibrate on, at most."""
    smallest: Annotated[int, Meta(ge=1)] = 64
    """Weights with fewer numbers than this stay floats."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the quantized graph, or the graph as it is where nothing can be quantized."""
        from modelmill.compress.quantize.calibrate import chosen, opened, paired, ranges
        from modelmill.compress.quantize.graphs import outcome, planned, sample, skipped
        from modelmill.compress.quantize.smoothing import links, smooth
        from modelmill.compress.quantize.tidy import tidy

        found = opened(model.body.value, self.smallest)
        if found is None:
            yield skipped(model, self.smallest)
            return
        proto, nodes = found
        del found  # a large model is held once
        yield planned(len(nodes), f"compute in 8 bits, {len(links(proto, nodes))} values between them smoothed")
        rows = sample(data, self.rows, seed)
        proto, count = smooth(proto, nodes, rows, self.alpha)
        seen = ranges(proto, chosen(proto, nodes), rows, self.calibration)
        made = paired(proto, nodes, seen, per_channel=self.per_channel, reduce_range=self.weight_bits == 7)
        yield outcome(model, tidy(made), "quantize.smooth", len(nodes), f"compute in 8 bits, {count} values smoothed")
