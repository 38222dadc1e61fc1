"""Stochastic gradient descent with momentum."""

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


class Sgd(Trainer, Trains):
    """Train a network with plain gradient steps and Nesterov momentum.

    The best epoch's averaged weights are kept; with `swa`, the mean of the last epochs' weights is.

    Sutskever et al. (2013), https://proceedings.mlr.press/v28/sutskever13.html
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})
    differentiable: ClassVar[frozenset[str]] = frozenset({"learning_rate", "weight_decay", "smoothing"})

    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.05
    """The largest step size of the schedule."""
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    """The share of the last step that is added to the next."""
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 5e-4
    """How strongly weights are drawn to zero; biases and norms are left out."""
    schedule: Literal["cosine", "one_cycle", "step", "plateau", "constant"] = "cosine"
    """How the step size moves over the training."""

    def __call__(
        self, model: Model, data: Splits, task: Task, judge: Judge, seed: int, checkpoint: Path | None = None
    ) -> Iterator[Progress]:
        """Train a copy of the model; with a `checkpoint` path, go on from there and keep it up to date."""
        from modelmill.train.fit import fit

        return fit(model, data, task, Recipe.of("sgd", self), seed, checkpoint)
