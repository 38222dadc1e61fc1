"""Static quantization after scale was moved from activations to weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.quantize.calibrates import Calibrates
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Smooth(Compressor, Calibrates):
    """Compute in 8-bit integers with channels evened out first: what is too large in activations goes to the weights.

    A channel is scaled where a layer or a norm makes it and layers alone read it; elsewhere it stays. In floats the
    answers are the same, and no operation is added.

    Xiao et al. (2023), https://arxiv.org/abs/2211.10438, equation 4
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    alpha: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """How much of the difference goes to the weights: 0 evens out the weights, 1 the activations."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the quantized graph, or the graph as it is where nothing can be quantized."""
        from modelmill.compress.quantize.calibrate import opened
        from modelmill.compress.quantize.graphs import outcome, planned, skipped
        from modelmill.compress.quantize.smoothing import links, smooth
        from modelmill.compress.quantize.tidy import tidy

        found = opened(model.body.value, self.smallest)
        if found is None:
            yield skipped(model, self.smallest)
            return
        proto, nodes = found
        del found  # a large model is held once
        yield planned(len(nodes), f"compute in 8 bits, {len(links(proto, nodes))} values between them smoothed")
        rows = self.sampled(data, seed)
        proto, count = smooth(proto, nodes, rows, self.alpha)
        made = self.paired(proto, nodes, self.seen(proto, nodes, rows))
        yield outcome(model, tidy(made), "quantize.smooth", len(nodes), f"compute in 8 bits, {count} values smoothed")
