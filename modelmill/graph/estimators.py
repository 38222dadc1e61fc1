"""Writes fitted estimators as ONNX operations: linear ones and trees here, all others by skl2onnx."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.graph import trees

Array = np.ndarray[Any, Any]
Raw = tuple[str, str]
"""Name of the raw output, and its form."""


def emit(estimator: Any, value: str, writer: Writer, classes: Sequence[Any]) -> Raw:
    """Write a fitted estimator's operations; the raw output's name, and its form.

    The estimator's own classes may be labels, or indices into `classes`; a class that it never saw gets a probability
    of zero. Raises ModelError for an estimator that is not fitted or cannot be written.
    """
    write = WRITERS.get(_name(estimator), _foreign)
    if write is not _foreign:
        _check_fitted(estimator)
    if not classes:
        return write(estimator, value, writer, 0)
    positions = _positions(estimator, classes)
    if len(positions) == 1:
        return _only(value, writer, positions[0], len(classes)), "probabilities"
    raw, form = write(estimator, value, writer, len(positions))
    return _placed(raw, form, positions, len(classes), writer)


def _name(estimator: Any) -> str:
    """`package.Class` of an estimator of a library that we know."""
    cls = type(estimator)
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def _check_fitted(estimator: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ModelError("graph.emit", f"{type(estimator).__name__} is not fitted", "Fit it before export.") from error


def _positions(estimator: Any, classes: Sequence[Any]) -> list[int]:
    """Where in `classes` each of the estimator's own classes is."""
    own = [] if getattr(estimator, "classes_", None) is None else np.asarray(estimator.classes_).tolist()
    labels = list(classes)
    if own == labels:
        return list(range(len(labels)))
    if own and all(isinstance(c, int | float) and not isinstance(c, bool) and c in range(len(labels)) for c in own):
        return [int(c) for c in own]
    if own and set(own) <= set(labels):
        return [labels.index(c) for c in own]
    name = type(estimator).__name__
    raise ModelError("graph.emit", f"{name} knows the classes {own[:5]}, the model {labels[:5]}", "Fit it on these.")


def _only(value: str, writer: Writer, position: int, width: int) -> str:
    """An estimator that saw one class alone gives it a probability of one in every row."""
    shape = writer.op("Shape", [value], {"start": 0, "end": 1})
    shape = writer.op("Concat", [shape, writer.constant([1])], {"axis": 0})
    row = np.zeros((1, width), np.float32)
    row[0, position] = 1
    return writer.op("Tile", [writer.constant(row), shape])


def _placed(raw: str, form: str, positions: list[int], width: int, writer: Writer) -> Raw:
    """The same output with a column for every class of the model."""
    if positions == list(range(width)):
        return raw, form
    if form == "logits":
        raw = writer.op("Softmax", [raw], {"axis": -1})
    place = np.zeros((len(positions), width), np.float32)
    place[np.arange(len(positions)), positions] = 1
    return writer.op("MatMul", [raw, writer.constant(place)]), "probabilities"


def _linear(estimator: Any, value: str, writer: Writer, width: int) -> Raw:
    weight = np.atleast_2d(np.asarray(estimator.coef_, np.float32))
    bias = np.broadcast_to(np.asarray(estimator.intercept_, np.float32).ravel(), (len(weight),))
    if width == 2 and len(weight) == 1:
        weight, bias = _two(weight), _two(bias)
    if len(weight) != max(width, 1):
        raise ModelError("graph.emit", f"{type(estimator).__name__} gives {len(weight)} values", "Fit one target.")
    inputs = [value, writer.constant(weight), writer.constant(np.array(bias))]
    return writer.op("Gemm", inputs, {"transB": 1}), "logits" if width else "value"


def _two(rows: Array) -> Array:
    """Logits of two classes from that of the second: the first is zero."""
    return np.concatenate([np.zeros_like(rows), rows])


def _tree(estimator: Any, value: str, writer: Writer, width: int) -> Raw:
    return _average([estimator], value, writer, width)


def _forest(estimator: Any, value: str, writer: Writer, width: int) -> Raw:
    return _average(estimator.estimators_, value, writer, width)


def _average(members: Sequence[Any], value: str, writer: Writer, width: int) -> Raw:
    found = [trees.from_sklearn(member.tree_) for member in members]
    raw = trees.write(found, max(width, 1), value, writer, average=True, base=None)
    return raw, "probabilities" if width else "value"


def _gradient(estimator: Any, value: str, writer: Writer, width: int) -> Raw:
    """scikit-learn's older boosting: an initial guess and the sum of its trees times the learning rate."""
    rounds = np.asarray(estimator.estimators_)
    if type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor", "str"):
        raise ModelError("graph.emit", "gradient boosting that starts from an estimator", "Leave init at its default.")
    # the starting guess is a function of the class counts alone, so that any row gives it
    base = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0]
    doubled = 2.0 if estimator.loss == "exponential" else 1.0
    rate = estimator.learning_rate * doubled
    found = [trees.from_sklearn(t.tree_, rate, k) for stage in rounds for k, t in enumerate(stage)]
    return _boosted(found, rounds.shape[1], base * doubled, value, writer, width)


def _histogram(estimator: Any, value: str, writer: Writer, width: int) -> Raw:
    rounds = estimator._predictors
    found = [trees.from_histogram(p.nodes, k) for stage in rounds for k, p in enumerate(stage)]
    if getattr(estimator, "_preprocessor", None) is not None:
        raise ModelError("graph.emit", "histogram boosting with categorical features", "One-hot them before.")
    base = np.asarray(estimator._baseline_prediction, np.float64).ravel()
    raw, form = _boosted(found, estimator.n_trees_per_iteration_, base, value, writer, width)
    if form == "value" and estimator.loss in ("poisson", "gamma"):
        return writer.op("Exp", [raw]), form
    return raw, form


def _lightgbm(estimator: Any, value: str, writer: Writer, width: int) -> Raw:
    booster = estimator.booster_
    text = booster.model_to_string(num_iteration=estimator.best_iteration_ or -1)
    head = text.partition("\nTree=")[0]
    objective = next((line.partition("=")[2] for line in head.splitlines() if line.startswith("objective=")), "")
    _check_objective(objective)
    per_round = booster.num_model_per_iteration()
    found = trees.from_lightgbm(text, per_round)
    if "average_output" in head.splitlines():
        raise ModelError("graph.emit", "LightGBM in its random forest mode", "Use the arch forest.")
    return _boosted(found, per_round, np.zeros(per_round), value, writer, width)


LIGHTGBM_OBJECTIVES = frozenset({"binary sigmoid:1", "multiclass", "regression", "regression_l1", "huber", "quantile"})


def _check_objective(objective: str) -> None:
    plain = objective if objective.startswith("binary") else objective.partition(" ")[0]
    if plain not in LIGHTGBM_OBJECTIVES or "sqrt" in objective:
        raise ModelError("graph.emit", f"LightGBM's objective {objective!r}", "Known: binary, multiclass, regression.")


def _boosted(found: Sequence[trees.Tree], per_round: int, base: Array, value: str, writer: Writer, width: int) -> Raw:
    raw = trees.write(found, per_round, value, writer, average=False, base=base)
    if not width:
        return raw, "value"
    if width == 2 and per_round == 1:
        raw = writer.op("Concat", [writer.op("Sub", [raw, raw]), raw], {"axis": 1})
    return raw, "logits"


def _foreign(estimator: Any, value: str, writer: Writer, width: int) -> Raw:
    from modelmill.graph import foreign

    return foreign.estimator(estimator, value, writer, width)


LINEAR = (
    "LinearRegression Ridge RidgeCV Lasso LassoCV ElasticNet ElasticNetCV BayesianRidge HuberRegressor "
    "LogisticRegression LogisticRegressionCV"
)
WRITERS: dict[str, Callable[[Any, str, Writer, int], Raw]] = {
    **{f"sklearn.{name}": _linear for name in LINEAR.split()},
    **{f"sklearn.{name}": _tree for name in ("DecisionTreeClassifier", "DecisionTreeRegressor")},
    **{
        f"sklearn.{kind}{task}": _forest
        for kind in ("RandomForest", "ExtraTrees")
        for task in ("Classifier", "Regressor")
    },
    **{f"sklearn.GradientBoosting{task}": _gradient for task in ("Classifier", "Regressor")},
    **{f"sklearn.HistGradientBoosting{task}": _histogram for task in ("Classifier", "Regressor")},
    **{f"lightgbm.LGBM{task}": _lightgbm for task in ("Classifier", "Regressor")},
}
