"""Adam, with decoupled weight decay unless asked otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Judge, Task, Trainer
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.train.recipe import Recipe
from modelmill.train.trains import Trains
from modelmill.trial import Progress


class Adam(Trainer, Trains):
    """Train a network with steps that adapt to each weight's gradients; weight decay is decoupled (AdamW).

    The best epoch's averaged weights are kept; with `swa`, the mean of the last epochs' weights is.

    Kingma & Ba (2015), https://arxiv.org/abs/1412.6980; Loshchilov & Hutter (2019), https://arxiv.org/abs/1711.05101
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})
    differentiable: ClassVar[frozenset[str]] = frozenset({"learning_rate", "weight_decay", "smoothing"})

    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """The largest step size of the schedule."""
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 1e-2
    """How strongly weights are drawn to zero; biases and norms are left out."""
    decoupled: bool = True
    """Whether weights decay apart from the gradients (AdamW); else their decay is part of the gradient (L2)."""
    schedule: Literal["cosine", "one_cycle", "step", "plateau", "constant"] = "one_cycle"
    """How the step size moves over the training."""

    def __call__(
        self, model: Model, data: Splits, task: Task, judge: Judge, seed: int, checkpoint: Path | None = None
    ) -> Iterator[Progress]:
        """Train a copy of the model; with a `checkpoint` path, go on from there and keep it up to date."""
        from modelmill.train.fit import fit

        return fit(model, data, task, Recipe.of("adam", self), seed, checkpoint)
