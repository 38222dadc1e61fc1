"""What a teacher says of some rows, as targets: for students that do not ask it again."""

from __future__ import annotations

import numpy as np

from modelmill.compress.parity import answers
from modelmill.contracts import Array, Task
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.model import Model

LEAST = 0.01
"""Probabilities below this are left out where a row is written once for every class."""


def told(model: Model, dataset: Dataset) -> Array:
    """(rows, classes) probabilities, or (rows,) values, of a model of any body."""
    if model.signature.task not in ("classify", "regress"):
        said = f"the file's task is {model.signature.task}: nobody has said which output is to be learned"
        raise ModelError("compress.distill", said, "Import it with a task, classify or regress.")
    if model.body.kind == "graph":
        from modelmill.runtime import calls
        from modelmill.runtime.session import BATCH_ROWS, Session

        wanted = "probabilities" if model.signature.classes else "value"
        return calls.answers(Session(model.body.value), dataset, BATCH_ROWS)[wanted]
    found = answers(model, dataset, dataset.rows)
    return found["probabilities"] if model.signature.classes else found["value"]


def blended(said: Array, encoded: Array, share: float) -> Array:
    """`share` of what a teacher said and the rest of the truth: (rows, classes), or (rows,) values.

    encoded: class numbers or values. A row whose class the model does not know has what was said alone.

    >>> blended(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([1, -100]), 0.5).tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    """
    said = np.asarray(said, np.float64)
    if said.ndim == 1:
        return share * said + (1 - share) * encoded
    true = np.where((encoded >= 0)[:, None], np.arange(said.shape[1]) == encoded[:, None], said)
    return share * said + (1 - share) * true


def targets(model: Model, dataset: Dataset, task: Task, share: float, temperature: float = 1.0) -> Array:
    """What a student of the model learns of the rows of a data set."""
    assert dataset.target is not None, "a data set that is learned from has a target"
    said = told(model, dataset)
    if said.ndim > 1 and temperature != 1:
        said = softened(said, temperature)
    return blended(said, task.encode(dataset.target, model.signature.classes), share)


def softened(shares: Array, temperature: float) -> Array:
    """Probabilities at another temperature.

    >>> softened(np.array([[0.8, 0.2]]), 2.0).round(4).tolist()
    [[0.6667, 0.3333]]
    """
    raised = np.maximum(shares, 1e-12) ** (1 / temperature)
    softened: Array = raised / raised.sum(axis=1, keepdims=True)
    return softened


def spelled(labels: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Soft labels for what learns from hard ones: row, class and weight, once for every class that a row may have.

    The loss of a classifier on these is that on the soft labels.

    >>> [part.tolist() for part in spelled(np.array([[1.0, 0.0], [0.25, 0.75]]), None)]
    [[0, 1, 1], [0, 0, 1], [1.0, 0.25, 0.75]]
    """
    rows, classes = np.nonzero(labels >= LEAST)
    kept = labels[rows, classes]
    each = np.bincount(rows, weights=kept, minlength=len(labels))
    shares = kept / each[rows]
    return rows, classes, shares if weights is None else shares * weights[rows]
