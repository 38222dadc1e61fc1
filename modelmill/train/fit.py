"""A training from its first epoch to its result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.model import Model
from modelmill.train.recipe import Recipe
from modelmill.train.resume import resumed
from modelmill.train.training import Training
from modelmill.trial import Progress


def fit(
    model: Model, data: Splits, task: Task, recipe: Recipe, seed: int, checkpoint: Path | None = None
) -> Iterator[Progress]:
    """Train a copy of the model's network: one Progress an epoch, and a last one that holds the result.

    With a `checkpoint` path the training goes on from that file, to the same bits, and keeps it up to date.
    A network that was trained before goes on from its weights.
    """
    trained = any(line.startswith("train.") for line in model.history)
    training = Training(model, data, task, recipe, seed, warm=trained)
    yield from resumed(training, checkpoint)
    yield training.finish(f"train.{recipe.optimizer}")
