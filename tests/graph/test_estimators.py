"""Estimators answer as scikit-learn does, on thresholds and for missing values too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import ensemble, linear_model, naive_bayes, neighbors, tree
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from threadpoolctl import threadpool_limits

from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.graph.emit import emit
from modelmill.graph.trees import round_down
from modelmill.model import Body
from modelmill.signature import Field


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Histogram boosting takes a thread a core, which spin where cores are busy."""
    with threadpool_limits(1):
        yield


SETS = {"iris": load_iris, "breast_cancer": load_breast_cancer, "diabetes": load_diabetes}


def rows_of(name: str, missing: bool = False) -> tuple[np.ndarray, np.ndarray]:
    x, y = SETS[name](return_X_y=True)
    x = x.astype(np.float32)
    if missing:
        x[np.random.default_rng(0).random(x.shape) < 0.2] = np.nan
    return x, y


def written(fitted: Any, classes: list[Any]) -> bytes:
    writer = Writer()
    raw, form = emit(Body("estimator", fitted), "features", writer, classes)
    writer.rename(writer.op("Softmax", [raw], {"axis": -1}) if form == "logits" else raw, "raw")
    fields = (
        [Field("features", "FP32", (-1, fitted.n_features_in_))],
        [Field("raw", "FP32", (-1, max(len(classes), 1)))],
    )
    return to_onnx(writer.fragment(), *fields)


def answer(fitted: Any, classes: list[Any], rows: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(written(fitted, classes)).run(None, {"features": rows})[0]


def on_thresholds(fitted: Any, x: np.ndarray) -> np.ndarray:
    """Rows with a feature on a threshold, just below it and just above."""
    members = np.ravel(fitted.estimators_) if hasattr(fitted, "estimators_") else [fitted]
    splits = {(f, t) for m in members for f, t in zip(m.tree_.feature, m.tree_.threshold, strict=True) if f >= 0}
    rows = []
    for at, (feature, threshold) in enumerate(sorted(splits)):
        near = np.float32(threshold)
        for value in (near, np.nextafter(near, np.float32(-1e9)), np.nextafter(near, np.float32(1e9))):
            row = x[at % len(x)].copy()
            row[feature] = value
            rows.append(row)
    rows_ = np.array(rows)
    return np.concatenate([x, rows_[~np.isinf(rows_).any(1)]])


CLASSIFIERS = {
    "logistic": (linear_model.LogisticRegression(max_iter=5000), False),
    "tree": (tree.DecisionTreeClassifier(random_state=0), True),
    "tree of depth 3": (tree.DecisionTreeClassifier(max_depth=3, random_state=0), True),
    "forest": (ensemble.RandomForestClassifier(12, random_state=0), True),
    "forest of mixed leaves": (ensemble.RandomForestClassifier(12, min_samples_leaf=4, random_state=0), True),
    "extra trees": (ensemble.ExtraTreesClassifier(8, random_state=0), False),
    "gradient boosting": (ensemble.GradientBoostingClassifier(n_estimators=6, random_state=0), False),
    "histogram boosting": (ensemble.HistGradientBoostingClassifier(max_iter=8, random_state=0), True),
}


@pytest.mark.parametrize("data", ["iris", "breast_cancer"])
@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_a_classifier_answers_as_it_does_itself(name: str, data: str) -> None:
    estimator, takes_missing = CLASSIFIERS[name]
    for missing in {False, takes_missing}:
        x, y = rows_of(data, missing)
        estimator.fit(x, y)
        trees = hasattr(estimator, "tree_") or hasattr(getattr(estimator, "estimators_", [None])[0], "tree_")
        rows = on_thresholds(estimator, x) if trees else x
        got, wanted = answer(estimator, sorted(set(y.tolist())), rows), estimator.predict_proba(rows)
        np.testing.assert_array_equal(got.argmax(1), wanted.argmax(1))
        np.testing.assert_allclose(got, wanted, atol=5e-6 if name == "logistic" else 1e-6)


REGRESSORS = {
    "ridge": linear_model.Ridge(),
    "lasso": linear_model.Lasso(0.1),
    "tree": tree.DecisionTreeRegressor(random_state=0),
    "forest": ensemble.RandomForestRegressor(8, random_state=0),
    "gradient boosting": ensemble.GradientBoostingRegressor(n_estimators=8, random_state=0),
    "histogram boosting": ensemble.HistGradientBoostingRegressor(max_iter=10, random_state=0),
    "log link": ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=10, random_state=0),
}


@pytest.mark.parametrize("name", sorted(REGRESSORS))
def test_a_regressor_answers_as_it_does_itself(name: str) -> None:
    x, y = rows_of("diabetes", missing=name in ("histogram boosting", "forest"))
    fitted = REGRESSORS[name].fit(x, y)
    np.testing.assert_allclose(answer(fitted, [], x), fitted.predict(x)[:, None], rtol=2e-6)


@pytest.mark.parametrize("handles_missing", [True, False])
def test_lightgbm_answers_as_it_does_itself(handles_missing: bool) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is an extra")
    settings = {"n_estimators": 8, "n_jobs": 1, "verbosity": -1, "use_missing": handles_missing}
    for data in ("iris", "breast_cancer"):
        x, y = rows_of(data, missing=True)
        fitted = lightgbm.LGBMClassifier(**settings).fit(x, y)
        got, wanted = answer(fitted, sorted(set(y.tolist())), x), fitted.predict_proba(x)
        np.testing.assert_array_equal(got.argmax(1), wanted.argmax(1))
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    x, y = rows_of("diabetes", missing=True)
    regressor = lightgbm.LGBMRegressor(**settings).fit(x, y)
    np.testing.assert_allclose(answer(regressor, [], x), regressor.predict(x)[:, None], rtol=2e-6)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False, width=32))
def test_a_rounded_threshold_sends_every_float32_the_same_way(threshold: float, x: float) -> None:
    rounded = round_down(np.array([threshold]))[0]
    assert (np.float64(x) <= threshold) == (np.float32(x) <= rounded)


def test_a_tree_of_one_leaf_answers_the_mean() -> None:
    fitted = tree.DecisionTreeRegressor().fit(np.zeros((4, 2), np.float32), [1.0, 2.0, 3.0, 6.0])
    assert answer(fitted, [], np.ones((2, 2), np.float32)).tolist() == [[3.0], [3.0]]


def test_trees_of_one_leaf_stand_among_others() -> None:
    x = np.array([[0], [0], [0], [1]], np.float32)
    fitted = ensemble.RandomForestClassifier(9, random_state=0).fit(x, [0, 0, 0, 1])
    assert any(member.tree_.node_count == 1 for member in fitted.estimators_)
    np.testing.assert_allclose(answer(fitted, [0, 1], x), fitted.predict_proba(x), atol=1e-6)


def test_a_class_that_training_never_saw_has_no_probability() -> None:
    x, y = rows_of("iris")
    for estimator in (linear_model.LogisticRegression(max_iter=5000), tree.DecisionTreeClassifier()):
        fitted = estimator.fit(x[y != 1], y[y != 1])
        got = answer(fitted, ["setosa", "versicolor", "virginica"], x)
        assert not got[:, 1].any()
        np.testing.assert_allclose(got[:, [0, 2]], fitted.predict_proba(x), atol=1e-6)


def test_one_class_alone_has_all_the_probability() -> None:
    x, y = rows_of("iris")
    fitted = tree.DecisionTreeClassifier().fit(x[y == 1], y[y == 1])
    assert answer(fitted, ["a", "b", "c"], x[:2]).tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("estimator", [naive_bayes.GaussianNB(), neighbors.KNeighborsClassifier()])
def test_other_estimators_go_through_skl2onnx(estimator: Any) -> None:
    x, y = rows_of("iris")
    fitted = estimator.fit(x, y)
    np.testing.assert_allclose(answer(fitted, [0, 1, 2], x), fitted.predict_proba(x), atol=1e-5)


def test_skl2onnx_meets_booleans_within_an_ensemble() -> None:
    x, y = rows_of("iris")
    members = [("h", ensemble.HistGradientBoostingClassifier(max_iter=3)), ("n", naive_bayes.GaussianNB())]
    fitted = ensemble.VotingClassifier(members, voting="soft", flatten_transform=False).fit(x, y)
    np.testing.assert_allclose(answer(fitted, [0, 1, 2], x), fitted.predict_proba(x), atol=1e-5)


def test_the_same_forest_gives_the_same_bytes() -> None:
    x, y = rows_of("iris")
    first, second = (ensemble.RandomForestClassifier(5, random_state=4).fit(x, y) for _ in range(2))
    assert written(first, [0, 1, 2]) == written(second, [0, 1, 2])


def test_what_is_not_fitted_is_refused() -> None:
    with pytest.raises(ModelError, match="Ridge is not fitted"):
        emit(Body("estimator", linear_model.Ridge()), "features", Writer(), ())


def test_two_targets_are_refused() -> None:
    fitted = tree.DecisionTreeRegressor().fit(np.eye(3), np.eye(3)[:, :2])
    with pytest.raises(ModelError, match="2 targets"):
        emit(Body("estimator", fitted), "features", Writer(), ())


def test_classes_of_another_model_are_refused() -> None:
    fitted = tree.DecisionTreeClassifier().fit(np.eye(2), ["x", "y"])
    with pytest.raises(ModelError, match="knows the classes"):
        emit(Body("estimator", fitted), "features", Writer(), ["a", "b"])
