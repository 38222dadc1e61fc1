"""What two teachers say of the same rows, as the targets of one training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelmill.compress.distill.labels import blended, softened, told
from modelmill.contracts import Array, Task
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.model import Model
from modelmill.train.rows import tensor
from modelmill.train.training import Training


def merged(
    model: Model, other: Model, train: Dataset, task: Task, weight: float, temperature: float, share: float
) -> Array:
    """(rows, classes) or (rows,): `share` of the mean of what both say, the second counting `weight`, and the truth.

    Raises ModelError, naming the difference, for another task, other classes, or inputs that the data have not.
    """
    assert train.target is not None, "a data set that is learned from has a target"
    classes = model.signature.classes
    order = _order(model, other, train)
    second = told(other, train)
    if classes:
        second = second[:, order]
    mean = (1 - weight) * np.asarray(told(model, train), np.float64) + weight * second
    return blended(softened(mean, temperature) if classes else mean, task.encode(train.target, classes), share)


def _order(model: Model, other: Model, train: Dataset) -> list[int]:
    """Where in the other model's classes each of the model's is."""
    mine, theirs = model.signature, other.signature
    where = "compress.distill.merge"
    if mine.task != theirs.task or set(mine.classes) != set(theirs.classes):
        message = (
            f"the second teacher knows {theirs.task} of {_shown(theirs.classes)}, the model {_shown(mine.classes)}"
        )
        raise ModelError(where, message, "Both must know the same classes.")
    lacking = sorted({field.name for field in theirs.inputs} - {field.name for field in train.fields})
    if lacking:
        message = f"the second teacher takes the column {lacking[0]!r}, which the data have not"
        raise ModelError(where, message, "Name a model that was made of data with the same columns.")
    return [list(theirs.classes).index(label) for label in mine.classes]


def _shown(classes: tuple[str | int, ...]) -> str:
    first = ", ".join(map(str, classes[:5]))
    return f"{len(classes)} classes ({first}{', ...' if len(classes) > 5 else ''})" if classes else "values"


def taught_by(training: Training, labels: Array) -> None:
    """Let a training that has not begun learn these labels in place of the true ones."""
    if labels.ndim == 1:
        labels = (labels - training.unit.mean) / training.unit.deviation
    training.train = replace(training.train, encoded=tensor(labels.astype(np.float32)))
