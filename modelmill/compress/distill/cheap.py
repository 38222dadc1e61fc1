"""Cheap estimators that are fitted to soft labels: a tree, a linear model."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from modelmill.compress.distill.labels import spelled
from modelmill.compress.preparing import prepared, reopened
from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.model import Model


def tree(depth: int, min_leaf: int, rows: int, classes: bool, seed: int) -> Any:
    """An unfitted tree; a leaf must hold so many rows, each counted once however often it is spelled out."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    made = DecisionTreeClassifier if classes else DecisionTreeRegressor
    return made(max_depth=depth, min_weight_fraction_leaf=min(min_leaf / max(rows, 1), 0.5), random_state=seed)


def linear(strength: float, classes: bool, seed: int) -> Any:
    """An unfitted linear model; `strength` holds back large weights."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if classes:
        return LogisticRegression(C=1 / strength, max_iter=1000, random_state=seed)
    return Ridge(alpha=strength, random_state=seed)


def fit(estimator: Any, inputs: Array, labels: Array, weights: Array | None) -> str:
    """Fit in place to soft labels (rows, classes), or to values (rows,); what there is to say about it."""
    inputs = inputs.reshape(len(inputs), -1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if labels.ndim == 1:
            estimator.fit(inputs, labels, sample_weight=weights)
        else:
            rows, classes, shares = spelled(labels, weights)
            if len(np.unique(classes)) < 2:
                raise ModelError(
                    "compress.distill", "the model tells all rows the same class", "There is nothing to learn."
                )
            estimator.fit(inputs[rows], classes, sample_weight=shares)
    return "; ".join(sorted({str(warning.message).strip().partition("\n")[0] for warning in caught}))


def tabular(model: Model, shape: tuple[int, ...]) -> Model:
    """The model with features as a table of numbers, where they are images or sequences of that shape."""
    if len(shape) == 1:
        return model
    writer, value = reopened(model.part.prepare)
    flat = prepared(model, writer, writer.op("Flatten", [value], {"axis": 1}))
    body = replace(model.body, features=(int(np.prod(shape)),))
    return replace(flat, parts=(replace(flat.part, body=body),))
