from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from modelmill.errors import SpecError, UnknownName
from modelmill.method import find, names
from modelmill.metrics import auroc
from modelmill.metrics.score import better, doubt, interval, score

RNG = np.random.default_rng(3)
CLASSES = ("ant", "bee", "cat")
CLASSIFY = ("accuracy", "auroc", "f1", "log_loss", "precision", "recall")
REGRESS = ("mae", "pearson", "r2", "rmse")
COMPUTE = ("agreement",)


def classified(rows: int, seed: int = 0, classes: tuple[Any, ...] = CLASSES) -> tuple[dict[str, np.ndarray], Any]:
    rng = np.random.default_rng(seed)
    labels = np.array(classes, object if isinstance(classes[0], str) else np.int64)
    true = rng.integers(0, len(classes), rows)
    logits = rng.normal(size=(rows, len(classes))) + 1.5 * np.eye(len(classes))[true]
    # Coarse steps, so that there are ties.
    odds = np.exp(np.round(logits, 1))
    given_to = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
    return {"label": labels[given_to.argmax(1)], "probabilities": given_to}, labels[true]


def regressed(rows: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.normal(1000, 3, rows).astype(np.float32)
    return {"value": true + rng.normal(size=rows).astype(np.float32)}, true


@pytest.mark.parametrize("classes", [CLASSES, (4, 5, 9)])
def test_figures_of_classes_are_those_of_scikit_learn(classes: tuple[Any, ...]) -> None:
    outputs, true = classified(300, classes=classes)
    said, chance = outputs["label"].tolist(), outputs["probabilities"]
    found = score(CLASSIFY, outputs, true, classes)
    target = true.tolist()
    wanted = {
        "accuracy": oracle.accuracy_score(target, said),
        "auroc": oracle.roc_auc_score(target, chance / chance.sum(1, keepdims=True), multi_class="ovr"),
        "f1": oracle.f1_score(target, said, average="macro"),
        "log_loss": oracle.log_loss(target, chance),
        "precision": oracle.precision_score(target, said, average="macro"),
        "recall": oracle.recall_score(target, said, average="macro"),
    }
    assert found == pytest.approx(wanted, abs=1e-6)


def test_the_area_of_two_classes_is_that_of_scikit_learn() -> None:
    outputs, true = classified(200, classes=("no", "yes"))
    wanted = oracle.roc_auc_score(true == "yes", outputs["probabilities"][:, 1])
    assert score(["auroc"], outputs, true, ("no", "yes"))["auroc"] == pytest.approx(wanted, abs=1e-12)


def test_figures_of_values_are_those_of_scikit_learn_and_numpy() -> None:
    outputs, true = regressed(300)
    said, target = outputs["value"].astype(np.float64), true.astype(np.float64)
    wanted = {
        "mae": oracle.mean_absolute_error(target, said),
        "pearson": np.corrcoef(target, said)[0, 1],
        "r2": oracle.r2_score(target, said),
        "rmse": oracle.root_mean_squared_error(target, said),
    }
    assert score(REGRESS, outputs, true, ()) == pytest.approx(wanted, rel=1e-12)


def test_every_metric_of_the_folder_is_checked_here() -> None:
    assert set(names("metrics")) == {*CLASSIFY, *REGRESS, *COMPUTE}


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 80), min_size=1, max_size=4), turned=st.booleans(), seed=st.integers(0, 99))
@pytest.mark.parametrize("name", [*CLASSIFY, *REGRESS])
def test_merged_parts_give_the_figure_of_the_whole(name: str, cuts: list[int], turned: bool, seed: int) -> None:
    metric = find("metrics", name)()
    outputs, true = classified(80, seed) if name in CLASSIFY else regressed(80, seed)
    classes = CLASSES if name in CLASSIFY else ()
    edges = [0, *sorted(cuts), 80]
    parts = [
        metric.part({key: value[low:high] for key, value in outputs.items()}, true[low:high], classes)
        for low, high in pairwise(edges)
    ]
    if turned:
        parts.reverse()
    merged = parts[0]
    for part in parts[1:]:
        merged = metric.merge(merged, part)
    assert metric.total(merged) == pytest.approx(metric.total(metric.part(outputs, true, classes)), rel=1e-9)


def test_the_sketch_of_the_area_is_near_it_however_it_is_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, true = classified(2000)
    exact = score(["auroc"], outputs, true, CLASSES)["auroc"]
    metric = auroc.Auroc()
    monkeypatch.setattr(auroc, "EXACT_ROWS", 500)
    whole = metric.part(outputs, true, CLASSES)
    parts = [
        metric.part({key: value[i : i + 400] for key, value in outputs.items()}, true[i : i + 400], CLASSES)
        for i in range(0, 2000, 400)
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = metric.merge(part, merged)
    assert "counts" in merged
    assert metric.total(merged) == metric.total(whole) == pytest.approx(exact, abs=1e-3)


def test_a_label_that_training_never_saw_is_wrong_and_does_no_harm() -> None:
    outputs, true = classified(60)
    strange = true.copy()
    strange[:3] = "dog"
    found = score(CLASSIFY, outputs, strange, CLASSES)
    said = outputs["label"].tolist()
    assert found["accuracy"] == oracle.accuracy_score(strange.tolist(), said)
    assert found["recall"] == pytest.approx(oracle.recall_score(strange.tolist(), said, average="macro"))
    assert found["log_loss"] > score(["log_loss"], outputs, true, CLASSES)["log_loss"] + 0.5
    assert 0 < found["auroc"] < 1


def test_a_class_that_the_sample_lacks_is_left_out_of_the_area() -> None:
    outputs, true = classified(200)
    kept = true != "cat"
    some = {key: value[kept] for key, value in outputs.items()}
    wanted = [
        oracle.roc_auc_score(true[kept] == name, some["probabilities"][:, i]) for i, name in enumerate(CLASSES[:2])
    ]
    assert score(["auroc"], some, true[kept], CLASSES)["auroc"] == pytest.approx(np.mean(wanted))


def test_what_is_not_defined_is_nan() -> None:
    one = {"label": np.array(["a", "a"], object), "probabilities": np.array([[0.9, 0.1], [0.8, 0.2]])}
    assert np.isnan(score(["auroc"], one, np.array(["a", "a"], object), ("a", "b"))["auroc"])
    flat = {"value": np.array([1.0, 1.0])}
    assert np.isnan(list(score(["r2", "pearson"], flat, np.array([2.0, 2.0]), ()).values())).all()
    empty = {"value": np.zeros(0)}
    assert np.isnan(list(score(REGRESS, empty, np.zeros(0), ()).values())).all()
    none = {"label": np.zeros(0, object), "probabilities": np.zeros((0, 2))}
    assert np.isnan(list(score(CLASSIFY, none, np.zeros(0, object), ("a", "b")).values())).all()


def test_an_answer_of_nan_is_never_a_good_figure() -> None:
    outputs, true = regressed(20)
    outputs["value"][3] = np.nan
    assert np.isnan(list(score(REGRESS, outputs, true, ()).values())).all()
    chances, labels = classified(20)
    chances["probabilities"][3] = np.nan
    assert np.isnan(list(score(["log_loss", "auroc"], chances, labels, CLASSES).values())).all()


def test_certainty_about_the_wrong_label_is_bad_and_finite() -> None:
    outputs = {"label": np.array([0]), "probabilities": np.array([[1.0, 0.0]], np.float32)}
    assert score(["log_loss"], outputs, np.array([1]), (0, 1))["log_loss"] == pytest.approx(15.9424, abs=1e-3)


@pytest.mark.parametrize("name", [*CLASSIFY, *REGRESS])
def test_the_interval_holds_the_figure_and_is_the_same_for_the_same_seed(name: str) -> None:
    outputs, true = classified(150) if name in CLASSIFY else regressed(150)
    classes = CLASSES if name in CLASSIFY else ()
    figure = score([name], outputs, true, classes)[name]
    low, high = interval(name, outputs, true, classes, seed=1, draws=60)
    assert low <= figure <= high
    assert low < high
    assert (low, high) == interval(name, outputs, true, classes, seed=1, draws=60)


def test_the_interval_of_a_share_is_as_wide_as_theory_says() -> None:
    rows = 20_000
    said = (RNG.random(rows) < 0.8).astype(np.int64)
    outputs = {"label": said, "probabilities": np.zeros((rows, 2))}
    low, high = interval("accuracy", outputs, np.ones(rows, np.int64), (0, 1), seed=0, draws=400)
    assert high - low == pytest.approx(2 * 1.96 * (0.8 * 0.2 / rows) ** 0.5, rel=0.25)


def test_no_rows_have_no_interval() -> None:
    assert np.isnan(interval("mae", {"value": np.zeros(0)}, np.zeros(0), (), seed=0)).all()


def test_errors_are_better_lower_and_the_rest_higher() -> None:
    lower = {name for name in names("metrics") if better(name) == "lower"}
    assert lower == {"log_loss", "mae", "rmse"}


def test_a_metric_of_another_task_or_of_no_name_is_refused() -> None:
    outputs, true = regressed(5)
    with pytest.raises(SpecError, match="is a metric of classify"):
        score(["accuracy"], outputs, true, ())
    with pytest.raises(UnknownName, match="accuracy"):
        better("acuracy")


def test_the_doubt_of_a_difference_counts_rows_on_which_two_models_part_and_no_others():
    truth = np.zeros(400, np.int64)
    first = (np.arange(400) < 40).astype(np.int64)  # a tenth is wrong
    second = (np.arange(400) < 44).astype(np.int64)  # four rows more
    outputs = [{"label": labels, "probabilities": np.eye(2)[labels]} for labels in (first, second)]
    assert doubt("accuracy", (outputs[0], outputs[0]), truth, (0, 1), seed=0) == 0
    found = doubt("accuracy", (outputs[0], outputs[1]), truth, (0, 1), seed=0)
    assert found == pytest.approx((0.01 * 0.99 / 400) ** 0.5, rel=0.15)
