"""Fitting of an estimator on prepared features."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from modelmill.contracts import Array, Task
from modelmill.dataset import Dataset, Splits
from modelmill.errors import WorkError
from modelmill.model import Model
from modelmill.trial import Progress


def estimate(model: Model, data: Splits, task: Task, class_weights: str, seed: int) -> Iterator[Progress]:
    """Fit a copy of the model's estimator; the one Progress holds the result and how it does on both parts."""
    from modelmill.runtime.features import features
    from modelmill.train.rows import weights

    assert data.train.target is not None, "a data set that is trained on has a target"
    estimator = _seeded(copy.deepcopy(model.body.value), seed)
    classes = model.signature.classes
    encoded = task.encode(data.train.target, classes)
    weighed = weights(encoded, data.train.weights, class_weights == "balanced" and bool(classes))
    notes = _fit(estimator, features(model.part, model.signature, data.train), encoded, weighed)
    result = model.with_body(estimator, "estimator", f"train.estimator: {type(estimator).__name__}")
    values = {
        f"{part}_{name}": value
        for part, dataset in (("train", data.train), ("valid", data.valid))
        for name, value in _scores(result, dataset, task).items()
    }
    yield Progress(1, 1, values, "; ".join(notes), result)


def _seeded(estimator: Any, seed: int) -> Any:
    """The estimator with its random state set, where it has one that was left open."""
    if hasattr(estimator, "get_params") and estimator.get_params().get("random_state", 0) is None:
        estimator.set_params(random_state=seed)
    return estimator


def _fit(estimator: Any, inputs: Array, target: Array, weights: Array | None) -> list[str]:
    """Fit in place; what there is to say about it, a sentence each."""
    from sklearn.utils.validation import has_fit_parameter

    notes = []
    if weights is not None and not has_fit_parameter(estimator, "sample_weight"):
        notes.append(f"{type(estimator).__name__} takes no weights: all rows count the same")
        weights = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if weights is None:
                estimator.fit(inputs, target)
            else:
                estimator.fit(inputs, target, sample_weight=weights)
        except ValueError as error:
            raise WorkError(type(estimator).__name__, f"cannot be fitted: {error}", "Try another arch.") from error
    told = {str(warning.message).strip().partition("\n")[0] for warning in caught}
    return [*notes, *sorted(told)]


def _scores(model: Model, dataset: Dataset, task: Task) -> dict[str, float]:
    """The task's first metric on a data set; nothing where it is empty."""
    from modelmill.metrics.score import score
    from modelmill.runtime.features import features

    if not dataset.rows or dataset.target is None:
        return {}
    inputs = features(model.part, model.signature, dataset)
    outputs = predictions(model, inputs)
    return dict(score([task.metrics[0]], outputs, dataset.target, model.signature.classes))


def predictions(model: Model, inputs: Array) -> dict[str, Array]:
    """A fitted estimator's answers as the named outputs of the model: label and probabilities, or value."""
    estimator, classes = model.body.value, model.signature.classes
    if not classes:
        return {"value": np.asarray(estimator.predict(inputs), np.float32).reshape(len(inputs))}
    known = np.array(classes, object if isinstance(classes[0], str) else np.int64)
    labels = known[np.asarray(estimator.predict(inputs)).astype(np.int64)]
    if not hasattr(estimator, "predict_proba"):
        return {"label": labels, "probabilities": np.eye(len(classes))[np.searchsorted(known, labels)]}
    return {"label": labels, "probabilities": np.asarray(estimator.predict_proba(inputs))}
