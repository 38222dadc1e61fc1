"""Fitting of an estimator on prepared features."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from modelmill.contracts import Array, Task
from modelmill.dataset import Dataset, Splits
from modelmill.errors import WorkError
from modelmill.model import Model
from modelmill.trial import Progress

MEMBERS = ("max_iter", "n_estimators")
"""What the number of an ensemble's members is called."""

ENSEMBLES = ("HistGradientBoosting", "RandomForest", "ExtraTrees")
"""Estimators that can go on growing where they stopped."""

PROBE = 8
"""A first part of the members tells how long the others will take."""

SAFE = 0.8
"""The share of the time that is planned with."""


def estimate(
    model: Model, data: Splits, task: Task, class_weights: str, seed: int, seconds: float = 0.0
) -> Iterator[Progress]:
    """Fit a copy of the model's estimator; the one Progress holds the result and how it does on both parts."""
    from modelmill.runtime.features import features
    from modelmill.train.rows import weights

    assert data.train.target is not None, "a data set that is trained on has a target"
    estimator = _seeded(copy.deepcopy(model.body.value), seed)
    classes = model.signature.classes
    encoded = task.encode(data.train.target, classes)
    weighed = weights(encoded, data.train.weights, class_weights == "balanced" and bool(classes))
    notes = _fit(estimator, features(model.part, model.signature, data.train), encoded, weighed, seconds)
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


def _fit(estimator: Any, inputs: Array, target: Array, weights: Array | None, seconds: float) -> list[str]:
    """Fit in place; what there is to say about it, a sentence each."""
    from sklearn.utils.validation import has_fit_parameter

    notes = []
    if weights is not None and not has_fit_parameter(estimator, "sample_weight"):
        notes.append(f"{type(estimator).__name__} takes no weights: all rows count the same")
        weights = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = partial(estimator.fit, inputs, target, **({} if weights is None else {"sample_weight": weights}))
            notes += _fit_in_time(estimator, fit, seconds)
        except ValueError as error:
            raise WorkError(type(estimator).__name__, f"cannot be fitted: {error}", "Try another arch.") from error
    told = {str(warning.message).strip().partition("\n")[0] for warning in caught}
    return [*notes, *sorted(told)]


def _fit_in_time(estimator: Any, fit: Callable[[], Any], seconds: float) -> list[str]:
    """Fit; an ensemble that would take longer than `seconds` gets as many members as fit in, and a note says so."""
    name = next((name for name in MEMBERS if hasattr(estimator, name)), "")
    if not (seconds and hasattr(estimator, "warm_start") and type(estimator).__name__.startswith(ENSEMBLES)):
        fit()
        return []
    wanted = int(getattr(estimator, name))
    first = max(1, wanted // PROBE)
    started = time.monotonic()
    fit_more = {"warm_start": True}
    estimator.set_params(**fit_more, **{name: first})
    fit()
    each_s = (time.monotonic() - started) / first
    count = min(wanted, max(first, int(SAFE * seconds / max(each_s, 1e-9))))
    if count > first:
        estimator.set_params(**{name: count})
        fit()
    estimator.set_params(warm_start=False)
    return [] if count == wanted else [f"{count} of {wanted} members, since no more could be fitted in {seconds:.0f} s"]


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
    return {"label": labels, "probabilities": _spread(estimator, inputs, len(classes))}


def _spread(estimator: Any, inputs: Array, classes: int) -> Array:
    """(rows, classes) probabilities; a class that the estimator never saw has none."""
    given = np.asarray(estimator.predict_proba(inputs))
    known = np.asarray(getattr(estimator, "classes_", np.arange(given.shape[1]))).astype(np.int64)
    spread = np.zeros((len(given), classes), given.dtype)
    spread[:, known] = given
    return spread
