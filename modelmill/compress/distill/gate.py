"""The cheap model of a filter, and how sure it must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelmill.compress.distill.cheap import fit
from modelmill.compress.distill.labels import targets, told
from modelmill.compress.distill.layout import fitted
from modelmill.contracts import Array, Task
from modelmill.dataset import Dataset, Splits
from modelmill.graph.export import export
from modelmill.metrics.score import better, score
from modelmill.model import Body, Model, Part
from modelmill.runtime.features import features

LOOKS = 200
"""Thresholds that are tried, at most."""

EVERY = 5
"""Where there are no validation rows, one in so many of the training rows takes their place."""


@dataclass(frozen=True)
class Early:
    """Which rows a gate answers, and what that costs."""

    count: int
    threshold: float
    """The probability from which on it answers."""
    before: float
    """The metric of the large model alone."""
    after: float
    """The metric of both together."""


def held(data: Splits) -> tuple[Dataset, Dataset, str]:
    """The rows that a gate learns, those on which its threshold is chosen, and what to call them."""
    if data.valid.rows:
        return data.train, data.valid, "validation"
    chosen = np.arange(data.train.rows) % EVERY == 0
    return data.train.take(~chosen), data.train.take(chosen), "training"


def gate(estimator: Any, model: Model, train: Dataset, task: Task, share: float) -> tuple[Model, str]:
    """The estimator fitted to what the model says, as a model with a preparation of its own; and what it said."""
    part = Part(Body("estimator", estimator), fitted(train, "table").fragment)
    said = fit(estimator, features(part, model.signature, train), targets(model, train, task, share), train.weights)
    return Model((part,), model.signature), said


def early(before: Model, model: Model, rows: Dataset, task: Task, allow_loss: float) -> Early:
    """As many rows answered by the gate as the first metric allows, counted from those that it is surest of."""
    cheap = told(before.with_body(export(before, task), "graph", ""), rows)
    large = told(model, rows)
    sure = cheap.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    whole = quality = _quality(large, model, rows, task)
    count = 0
    for candidate in _counts(sure[order]):
        answers = large.copy()
        answers[order[:candidate]] = cheap[order[:candidate]]
        found = _quality(answers, model, rows, task)
        lost = whole - found if better(task.metrics[0]) == "higher" else found - whole
        if not lost <= allow_loss + 1e-12:
            break
        count, quality = candidate, found
    return Early(count, _between(sure[order], count), whole, quality)


def _counts(sure: Array) -> list[int]:
    """How many rows may be answered early: a threshold lies between two rows that are not equally sure."""
    ends = np.flatnonzero(np.append(sure[:-1] > sure[1:], True)) + 1
    return [int(end) for end in ends[:: max(1, -(-len(ends) // LOOKS))]]


def _between(sure: Array, count: int) -> float:
    """The probability halfway between the last row that is answered early and the next."""
    if count == 0:
        return 1.0
    return float(sure[count - 1] + sure[count]) / 2 if count < len(sure) else float(sure[count - 1])


def _quality(probabilities: Array, model: Model, rows: Dataset, task: Task) -> float:
    classes = model.signature.classes
    known = np.array(classes, object if isinstance(classes[0], str) else np.int64)
    outputs = {"label": known[probabilities.argmax(axis=1)], "probabilities": probabilities}
    assert rows.target is not None, "a data set that is learned from has a target"
    return score([task.metrics[0]], outputs, rows.target, classes)[task.metrics[0]]
