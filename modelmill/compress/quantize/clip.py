"""Clipping of activations, without rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from modelmill.train.training import Objective, Training


class Clip(Compressor, Retrains):
    """Cut activations at bounds, so that few large numbers do not coarsen the steps of a quantization that follows.

    It makes nothing smaller or faster by itself. The cut is free in front of integers, and a comparison a number else.

    Choi et al. (2018), https://arxiv.org/abs/1805.06085
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    bounds: Literal["learned", "percentile"] = "learned"
    """Whether bounds are learned, from those of the percentile on, or stay there."""
    percent: Annotated[float, Meta(gt=50, le=100)] = 99.9
    """How many percent of an activation's numbers, zeros aside, the bounds leave as they are at first."""
    pull: Annotated[float, Meta(ge=0, le=1)] = 1e-4
    """How strongly squares of learned bounds count in the loss."""
    rows: Annotated[int, Meta(ge=1)] = 512
    """Training rows that the percentile is taken of, at most."""
    epochs: Annotated[int, Meta(ge=0)] = 5
    """Epochs of training with the bounds; 0 leaves them at the percentile."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    """The largest step size of training again."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Bound a copy of the network, and train it so."""
        import numpy as np

        from modelmill.compress.quantize.bounds import begin, bounded, ceilings, opened, settled
        from modelmill.runtime.features import features
        from modelmill.train.rows import tensor

        count = opened(model.body.value)
        if not count:
            yield Progress(1, 1, note="nothing to clip: every activation has an upper bound", result=model)
            return
        said = f"{count} activations are cut above {self.percent:g} % of their numbers"
        yield Progress(0, max(self.epochs, 1), note=said)
        network = bounded(model.body.value)
        index = np.sort(np.random.default_rng(seed).permutation(data.train.rows)[: self.rows])
        begin(network, tensor(features(model.part, model.signature, data.train.take(index))), self.percent)
        for layer in ceilings(network):
            layer.log_ceiling.requires_grad_(self.bounds == "learned")
        training = self.training(model.with_body(network, "network", f"quantize.clip: {said}"), data, task, seed)
        training.objective = self._objective(training)
        yield from training.run()
        last = training.finish("retrain.adam")
        assert last.result is not None
        body = settled(last.result.body.value)
        result = last.result.with_body(body, "network", f"quantize.clip: {self.bounds} bounds")
        yield replace(last, result=result)

    def _objective(self, training: Training) -> Objective:
        """The task's loss, and the squares of learned bounds."""
        from modelmill.compress.quantize.bounds import ceilings

        learned = [layer.log_ceiling for layer in ceilings(training.module) if layer.log_ceiling.requires_grad]
        return lambda raw, batch, loss: loss + self.pull * sum(log.exp().square() for log in learned)
