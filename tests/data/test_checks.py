from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelmill.data.card import card
from modelmill.data.inspect import inspect
from modelmill.data.read import read
from modelmill.data.split import split
from modelmill.dataset import Dataset
from modelmill.errors import ContentError
from modelmill.finding import Finding
from modelmill.signature import Field

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.normal(size=400).astype(np.float32)
CLASSES = np.where(NOISE + RANDOM.normal(size=400) > 0, "yes", "no").astype(object)
VALUES = (NOISE + RANDOM.normal(size=400)).astype(np.float32)


def field(name: str, values: np.ndarray) -> Field:
    if values.dtype == object:
        return Field(name, "BYTES", kind="category", nullable=bool((values == "").any()))
    if values.dtype.kind == "f":
        return Field(name, "FP32", nullable=bool(np.isnan(values).any()))
    return Field(name, "INT64")


def table(target: np.ndarray, **columns: np.ndarray) -> Dataset:
    columns = {"noise": NOISE[: len(target)], **columns}
    return Dataset(tuple(field(name, values) for name, values in columns.items()), columns, target, "y", origin="toy")


def findings(data: Dataset, check: str, task: str = "classify") -> list[Finding]:
    return [finding for finding in inspect(split(data, 0, task)) if finding.check == check]


def test_clean_data_give_no_warning() -> None:
    assert inspect(split(table(CLASSES), 0, "classify")) == []


def test_gaps_are_counted_and_many_are_a_warning() -> None:
    some, many = NOISE.copy(), NOISE.copy()
    some[:100], many[:300] = np.nan, np.nan
    found = findings(table(CLASSES, some=some, many=many), "missing")
    assert [finding.severity for finding in found] == ["warning", "note"]
    assert found[0].where == "toy column many"
    assert found[1].figures["some"] == pytest.approx(0.25, abs=0.08)


def test_repeated_rows_are_counted() -> None:
    found = findings(table(CLASSES).take(np.r_[0:400, 0:30]), "duplicates")
    assert (found[0].severity, found[0].figures) == ("warning", {"rows": 30})


def test_equal_rows_with_different_targets_are_pointed_out() -> None:
    data = table(CLASSES).take(np.r_[0:400, 0:5])
    data.target[400:] = np.where(data.target[:5] == "yes", "no", "yes")
    assert findings(data, "duplicates")[0].figures == {"rows": 10}


def test_rows_that_are_trained_on_and_judged_by_are_a_warning() -> None:
    data = table(CLASSES)
    stated = Dataset(data.fields, data.columns, data.target, "y", test=data.take(np.arange(50)), origin="toy")
    found = findings(stated, "overlap")
    assert sum(finding.figures["rows"] for finding in found if " test rows" in finding.message) == 50


def test_a_constant_column_is_a_warning() -> None:
    found = findings(table(CLASSES, same=np.ones(400, np.float32), text=np.full(400, "a", object)), "constant")
    assert found[0].figures == {"columns": ["same", "text"]}


def test_a_column_that_names_the_row_is_a_warning() -> None:
    names = np.array([f"id-{i}" for i in range(400)], object)
    found = findings(table(CLASSES, number=np.arange(400) + 1000, name=names), "constant")
    assert [finding.where for finding in found] == ["toy column number", "toy column name"]


def test_a_class_with_a_single_row_is_a_warning() -> None:
    classes = CLASSES.copy()
    classes[3] = "only"
    found = findings(table(classes), "balance")
    assert found[0].figures == {"classes": ["only"]}


def test_unequal_classes_are_a_warning() -> None:
    classes = np.where(np.arange(400) < 20, "rare", "common").astype(object)
    assert "5.0 %" in findings(table(classes), "balance")[0].message


@pytest.mark.parametrize(
    "leak",
    [
        np.where(CLASSES == "yes", "Y", "N").astype(object),
        np.where(CLASSES == "yes", 7, 3),
        np.where(CLASSES == "yes", 5, -5).astype(np.float32) + NOISE / 10,
        np.array([f"{label}-{i % 5}" for i, label in enumerate(CLASSES)], object),
        np.where(CLASSES == "yes", np.nan, NOISE).astype(np.float32),
    ],
    ids=["other names", "codes", "shifted number", "finer category", "gaps"],
)
def test_a_feature_that_tells_the_class_is_a_warning(leak: np.ndarray) -> None:
    found = findings(table(CLASSES, leak=leak), "leakage")
    assert [finding.where for finding in found] == ["toy column leak"]


@pytest.mark.parametrize(
    "leak", [VALUES, VALUES * 1.8 + 32, np.exp(VALUES)], ids=["equal", "another unit", "another scale"]
)
def test_a_feature_that_follows_the_value_is_a_warning(leak: np.ndarray) -> None:
    found = findings(table(VALUES, leak=leak), "leakage", "regress")
    assert [finding.where for finding in found] == ["toy column leak"]


def test_the_builtin_sets_leak_nothing() -> None:
    for name in ("iris", "wine", "breast_cancer"):
        assert findings(read({"method": "builtin", "name": name}), "leakage") == []


def test_one_class_only_is_fatal() -> None:
    with pytest.raises(ContentError, match="every row has the class 'yes'; there is nothing to learn"):
        inspect(split(table(np.full(50, "yes", object)), 0, "classify"))


def test_one_value_only_is_fatal() -> None:
    with pytest.raises(ContentError, match=r"the value 2\.0"):
        inspect(split(table(np.full(50, 2.0, np.float32)), 0, "regress"))


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_one_row_is_fatal(task: str) -> None:
    target = np.array(["a"], object) if task == "classify" else np.array([1.5], np.float32)
    with pytest.raises(ContentError, match="holds 1 row, too few to part"):
        inspect(split(table(target), 0, task))


def test_too_few_groups_are_fatal() -> None:
    data = table(CLASSES)
    grouped = Dataset(data.fields, data.columns, data.target, "y", groups=np.array(["a", "b"] * 200, object))
    with pytest.raises(ContentError, match="groups are too few"):
        inspect(split(grouped, 0, "classify"))


def test_a_label_that_training_never_sees_is_a_warning() -> None:
    data = table(CLASSES)
    test = data.take(np.arange(5))
    test.target[0] = "maybe"
    stated = Dataset(data.fields, data.columns, data.target, "y", test=test, origin="toy")
    assert "maybe" in findings(stated, "target")[0].message


def test_what_reading_decided_is_among_the_findings(tmp_path: Path) -> None:
    rows = "".join(f"{value},{label},\n" for value, label in zip(NOISE, CLASSES, strict=True))
    (tmp_path / "rows.csv").write_text(f"a,b,c\n{rows}")
    data = read({"method": "csv", "path": str(tmp_path / "rows.csv"), "target": "b"})
    found = inspect(split(data, 0, "classify"))
    assert [(finding.check, finding.severity) for finding in found] == [("missing", "warning")]


def test_the_card_is_json_and_says_what_is_in_the_columns() -> None:
    data = table(CLASSES, label_text=np.full(400, "x", object))
    made = card(data, inspect(split(data, 0, "classify")))
    assert json.loads(json.dumps(made)) == made
    assert made["rows"] == 400
    assert made["columns"][1]["top"] == [["x", 400]]
    assert sum(made["target"]["classes"].values()) == 400
    assert made["digest"].startswith("sha256:")


def test_the_card_flags_columns_that_may_be_personal() -> None:
    data = table(CLASSES, **{"First name": np.full(400, "x", object), "filename": np.full(400, "x", object)})
    assert card(data)["personal"] == ["First name"]
