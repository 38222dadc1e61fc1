"""Quantization of weights that makes up, column by column, for what rounding does to the outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Dataset, Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from modelmill.compress.quantize.weights import Weight


class Gptq(Compressor):
    """Round weights to few bits so that outputs on training rows, and not the weights, are off least.

    Without blocks, weights have a step a channel and Conv, Gemm and MatMul compute in 8-bit integers; fewer bits are
    stored as bytes, too. With blocks, weights of Gemm and MatMul alone are stored, as quantize.blocks stores them.

    Frantar et al. (2023), https://arxiv.org/abs/2210.17323, algorithm 1
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    bits: Annotated[int, Meta(ge=2, le=8)] = 4
    """Bits of a weight; with 8 and no blocks, sums may saturate on processors without 8-bit dot products."""
    block: Literal[0, 16, 32, 64, 128] = 0
    """Inputs that share a scale in weights that are stored alone; 0 computes in integers with a step a channel."""
    damping: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """What is added to the diagonal of the Hessian, in units of its mean."""
    rows: Annotated[int, Meta(ge=1)] = 512
    """Training rows to calibrate on, at most."""
    smallest: Annotated[int, Meta(ge=1)] = 64
    """Weights with fewer numbers than this stay floats."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the quantized graph, or the graph as it is where nothing can be quantized."""
        from modelmill.compress.quantize.calibrate import opened
        from modelmill.compress.quantize.graphs import outcome, planned, sample, skipped
        from modelmill.compress.quantize.matrices import matrices
        from modelmill.compress.quantize.tidy import tidy
        from modelmill.compress.quantize.weights import numbers, weights

        found = opened(model.body.value, self.smallest)
        nodes = [] if found is None else matrices(*found) if self.block else found[1]
        if found is None or not nodes:
            yield skipped(model, self.smallest, "Gemm or MatMul" if self.block else "Conv, Gemm or MatMul")
            return
        proto = found[0]
        del found  # a large model is held once
        given = weights(proto, nodes)
        yield planned(len(nodes), f"have their {numbers(proto, nodes)} weights rounded to {self.bits} bits")
        rows = sample(data, self.rows, seed)
        made = self._blocks(proto, given, rows) if self.block else self._channels(proto, given, rows)
        what = "read weights in blocks" if self.block else "compute in 8 bits"
        yield outcome(model, tidy(made), "quantize.gptq", len(nodes), f"{what}, weights rounded to {self.bits} bits")

    def _channels(self, proto: Any, given: Mapping[str, Weight], rows: Dataset) -> Any:
        """The model that computes in integers. Convolutions with groups or over three axes are rounded as they are."""
        from modelmill.compress.quantize.calibrate import Rounded, chosen, paired, ranges
        from modelmill.compress.quantize.columns import by_channel, steps
        from modelmill.compress.quantize.moments import moments

        seen, high = ranges(proto, chosen(proto, list(given)), rows, "minmax"), 2 ** (self.bits - 1) - 1
        made: dict[str, Rounded] = {}
        with moments(proto, list(given), rows) as products:
            for node in given:
                square = products.take(node) if node in products else None
                weight = given[node]
                step = steps(weight, high)
                if square is None:
                    codes = weight.codes(step, high)
                else:
                    codes = weight.shaped(by_channel(weight.rows, square, step, high, self.damping))
                made[weight.name] = Rounded(step, weight.axis, codes)
                del square, weight  # one layer at a time
        return paired(proto, list(given), seen, per_channel=True, reduce_range=False, rounded=made)

    def _blocks(self, proto: Any, given: Mapping[str, Weight], rows: Dataset) -> Any:
        """The model that reads packed weights."""
        from modelmill.compress.quantize.blocked import place
        from modelmill.compress.quantize.columns import by_block
        from modelmill.compress.quantize.moments import moments
        from modelmill.compress.quantize.stored import upgrade

        with moments(proto, list(given), rows) as products:
            made = {}
            for node in given:
                square = products.take(node)
                made[node] = by_block(given[node].rows.T, square, self.bits, self.block, self.damping)
                del square  # one layer at a time
        proto = upgrade(proto)
        place(proto, list(given), 4 if self.bits <= 4 else 8, self.block, True, made)
        return proto
