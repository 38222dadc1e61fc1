"""Weights in half precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

HONESTY = "the processor computes in 32 bits: size only, no faster"


class Float16(Compressor):
    """Store weights as 16-bit floats, in half the bytes, and nearly the same answers.

    onnxruntime turns them into 32-bit floats once, when it loads the model: it is no faster, and takes as much memory.
    A weight with numbers beyond 65504, or all below 0.00006, stays as it is.

    Micikevicius et al. (2018), https://arxiv.org/abs/1710.03740
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    smallest: Annotated[int, Meta(ge=1)] = 64
    """Weights with fewer numbers than this stay as they are."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the graph with half the bytes of weights, or as it is where no weight is worth it."""
        import numpy as np
        from onnx import helper, numpy_helper

        from modelmill.compress.quantize.graphs import load, outcome, planned, skipped
        from modelmill.compress.quantize.stored import FLOAT, expanded, large
        from modelmill.compress.quantize.tidy import tidy

        proto = load(model.body.value)
        limits = np.finfo(np.float16)
        weights = large(proto, self.smallest)
        held = [
            name
            for name, weight in weights.items()
            if float(limits.tiny) <= max(float(weight.max()), -float(weight.min())) <= float(limits.max)
        ]
        if len(weights) and not held:
            note = f"nothing to quantize: 16 bits do not reach the numbers of any of {len(weights)} large weights"
            yield Progress(1, 1, note=note, result=model)
            return
        if not held:
            yield skipped(model, self.smallest, "node")
            return
        yield planned(len(held), f"have weights in 16 bits ({HONESTY})")
        for name in held:
            half = numpy_helper.from_array(weights[name].astype(np.float16), f"{name}_half")
            expanded(proto, name, [half], [helper.make_node("Cast", [half.name], [name], to=FLOAT)])
        what = f"have weights in 16 bits ({HONESTY})"
        yield outcome(model, tidy(proto), "quantize.float16", len(held), what)
