"""What two teachers say of the same rows, as the targets of one training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelmill.compress.distill.labels import blended, softened, told
from modelmill.compress.distill.teachers import order
from modelmill.contracts import Array, Task
from modelmill.dataset import Dataset
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
    places = order(model.signature, other.signature, train.fields)
    second = told(other, train)
    if classes:
        second = second[:, places]
    mean = (1 - weight) * np.asarray(told(model, train), np.float64) + weight * second
    return blended(softened(mean, temperature) if classes else mean, task.encode(train.target, classes), share)


def taught_by(training: Training, labels: Array) -> None:
    """Let a training that has not begun learn these labels in place of the true ones."""
    if labels.ndim == 1:
        labels = (labels - training.unit.mean) / training.unit.deviation
    training.train = replace(training.train, encoded=tensor(labels.astype(np.float32)))
