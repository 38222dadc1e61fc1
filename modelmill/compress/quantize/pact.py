"""Quantization-aware training with learned ceilings of activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from modelmill.train.training import Objective, Training


class Pact(Compressor, Retrains):
    """Train a network again with activations cut at ceilings that are learned, and rounded below them.

    Weights are rounded with steps that follow the largest of each channel. The graph computes in 8-bit integers, as
    that of quantize.lsq does.

    Choi et al. (2018), https://arxiv.org/abs/1805.06085
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})
    gives: ClassVar[Kind | None] = "graph"

    bits: Annotated[int, Meta(ge=2, le=8)] = 7
    """Bits of a weight; with 8, sums may saturate on processors without 8-bit dot products."""
    activation_bits: Annotated[int, Meta(ge=2, le=8)] = 8
    """Bits of an activation."""
    pull: Annotated[float, Meta(ge=0, le=1)] = 1e-4
    """How strongly squares of the ceilings count in the loss: the larger, the finer the steps, and the more is cut."""
    rows: Annotated[int, Meta(ge=1)] = 512
    """Training rows by which the ceilings start, at most."""
    smallest: Annotated[int, Meta(ge=1)] = 64
    """Layers with fewer weights than this stay floats."""
    epochs: Annotated[int, Meta(ge=0)] = 10
    """Epochs of training on the grids; 0 leaves the ceilings where they start."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    """The largest step size of training again."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a copy of the model, and yield it as a graph."""
        from modelmill.compress.quantize.learn import Grids, learned
        from modelmill.network.steps import Capped, Stepped

        words = f"weights in {self.bits} bits, activations in {self.activation_bits} below learned ceilings"
        grids = Grids(
            "quantize.pact",
            lambda: Capped(self.activation_bits),
            lambda layer: Stepped(layer, self.bits, learned=False),
            self.smallest,
            self.rows,
            words,
        )
        yield from learned(model, data, task, seed, grids=grids, settings=self, objective=self._objective)

    def _objective(self, training: Training) -> Objective:
        """The task's loss, and the squares of all ceilings."""
        from modelmill.compress.quantize.insert import grids
        from modelmill.network.steps import Capped

        ceilings = [grid.log_ceiling for grid in grids(training.module) if isinstance(grid, Capped)]
        return lambda raw, batch, loss: loss + self.pull * sum(log.exp().square() for log in ceilings)
