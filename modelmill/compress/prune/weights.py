"""Pruning of single weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from modelmill.train.training import Training

HONESTY = "zeros are served like other numbers: the file is smaller only in the store, which packs it, and no faster"

SEEN = 2048
"""Training rows whose gradients are looked at."""


class Weights(Compressor, Guided):
    """Set the least important weights to zero, more of them with every epoch of retraining.

    A weight is important by its size, of which a share stays or what is above a threshold; by |gradient times weight|,
    what the loss would change without it; or by its movement, how far retraining carries it away from zero, which asks
    for epochs.

    Zhu & Gupta (2018), https://arxiv.org/abs/1710.01878, equation 1 (the schedule); Sanh et al. (2020),
    https://arxiv.org/abs/2005.07683 (movement); Lee et al. (2021), https://arxiv.org/abs/2010.07611 (LAMP)
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.8
    """The share of weights that end as zeros."""
    threshold: Annotated[float, Meta(ge=0)] = 0.0
    """In place of a share: weights below so many times the root mean square of their layer end as zeros; 0 is off."""
    criterion: Literal["magnitude", "gradient", "movement"] = "magnitude"
    """What makes a weight important."""
    scope: Literal["local", "global", "adaptive"] = "global"
    """Whether every layer loses that share, or all together: by scores in units of the layer's own, or by the share of
    the layer that goes with a weight, so that layers with few weights keep more of them ("adaptive", LAMP)."""
    epochs: Annotated[int, Meta(ge=0)] = 20
    """Epochs of retraining; in the first half the share grows. 0 cuts at once and does not retrain."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        from modelmill.compress.prune.masking import below, prunable, share, zeros

        if self.threshold and self.criterion != "magnitude":
            hint = "Take magnitude, or a ratio."
            raise ModelError("compress.prune.weights", f"a threshold is for sizes, not for {self.criterion}", hint)
        if self.criterion == "movement" and not self.epochs:
            hint = "Give it epochs, or take magnitude."
            raise ModelError("compress.prune.weights", "without epochs of retraining no weight moves", hint)
        weights = [weight.numel() for weight in prunable(model.body.value).values()]
        ratio = below(model.body.value, self.threshold) if self.threshold else self.ratio
        note = f"of {sum(weights)} weights in {len(weights)} layers the share {ratio:.3g} becomes zeros"
        yield Progress(0, self.epochs, {"weights": sum(weights)}, note)
        training = self.training(model, data, task, seed, self.guidance(model, data, task))
        cut = self._cutter(training)
        if self.epochs and self.criterion != "movement":
            cut(share(ratio, 0, training.epochs))
        for progress in training.run():
            yield progress
            wanted = share(ratio, training.epoch, training.epochs)
            if not training.plan.over and wanted > zeros(training.module):
                cut(wanted)
        if zeros(training.module) < ratio:
            cut(ratio)
        last = training.finish(f"prune.weights: {zeros(training.module):.0%} zeros; retrain.adam")
        yield replace(last, note="; ".join(filter(None, (last.note, HONESTY))))

    def _cutter(self, training: Training) -> Callable[[float], None]:
        """What sets the share of the least important weights of a training's network to zero."""
        from modelmill.compress.prune.gradients import saliency
        from modelmill.compress.prune.masking import masks
        from modelmill.compress.prune.movement import Movement
        from modelmill.train.rows import some

        movement = Movement(training.module) if self.criterion == "movement" else None

        def cut(ratio: float) -> None:
            scores = None if movement is None else movement.scores
            if self.criterion == "gradient":
                seen = some(training.train, SEEN)
                scores = saliency(training.module, seen, training.task, self.batch)
            found = masks(training.module, ratio, "global" if self.threshold else self.scope, scores)
            if movement is not None:
                movement.bring_back(found)
            training.mask(found)

        return cut
