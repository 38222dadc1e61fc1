"""Quantization-aware training with learned steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Lsq(Compressor, Retrains):
    """Train a network again with weights and activations rounded, and learn the steps between numbers as well.

    The graph that comes out computes in 8-bit integers with those steps. Fewer `bits` are stored as bytes, too: they
    make the file smaller only once it is packed, and no faster.

    Esser et al. (2020), https://arxiv.org/abs/1902.08153
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})
    gives: ClassVar[Kind | None] = "graph"

    bits: Annotated[int, Meta(ge=2, le=8)] = 7
    """Bits of a weight; with 8, sums may saturate on processors without 8-bit dot products."""
    activation_bits: Annotated[int, Meta(ge=2, le=8)] = 8
    """Bits of an activation."""
    rows: Annotated[int, Meta(ge=1)] = 512
    """Training rows by which the steps of activations start, at most."""
    smallest: Annotated[int, Meta(ge=1)] = 64
    """Layers with fewer weights than this stay floats."""
    epochs: Annotated[int, Meta(ge=0)] = 10
    """Epochs of training on the grids; 0 leaves the steps where they start."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    """The largest step size of training again."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a copy of the model, and yield it as a graph."""
        from modelmill.compress.quantize.learn import Grids, learned
        from modelmill.network.steps import Rounded, Stepped

        words = f"weights in {self.bits} bits, activations in {self.activation_bits}"
        grids = Grids(
            "quantize.lsq",
            lambda: Rounded(self.activation_bits),
            lambda layer: Stepped(layer, self.bits, learned=True),
            self.smallest,
            self.rows,
            words,
        )
        yield from learned(model, data, task, seed, grids=grids, settings=self)
