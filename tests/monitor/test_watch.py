"""Watching a model: nothing is told of rows like those before, and what moved is named with its size."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine

from modelmill.dataset import Dataset
from modelmill.errors import RegistryError
from modelmill.monitor.reference import reference
from modelmill.monitor.watch import watch
from modelmill.signature import NO_DATE, Field

ROWS = 1000
FIELDS = (
    Field("age", "FP32", nullable=True),
    Field("town", "BYTES", kind="category", nullable=True),
    Field("since", "INT64", kind="date", nullable=True),
    Field("member", "BOOL", kind="boolean"),
    Field("face", "UINT8", (-1, 6, 6), kind="image"),
)


def columns(seed, rows=ROWS, missing=0.02):
    rng = np.random.default_rng(seed)
    gaps = rng.uniform(size=rows) < missing
    return {
        "age": np.where(gaps, np.nan, rng.normal(40, 10, rows)).astype(np.float32),
        "town": rng.choice(["Bern", "Rome", "Oslo", ""], rows, p=[0.5, 0.3, 0.15, 0.05]).astype(object),
        "since": np.where(rng.uniform(size=rows) < 0.01, NO_DATE, rng.integers(10**12, 11 * 10**11, rows)),
        "member": rng.uniform(size=rows) < 0.7,
        "face": rng.integers(0, 200, (rows, 6, 6)).astype(np.uint8),
    }


def outputs(seed, rows=ROWS, yes=0.4):
    rng = np.random.default_rng(seed + 1000)
    label = np.where(rng.uniform(size=rows) < yes, "yes", "no").astype(object)
    sure = rng.beta(8, 2, rows)
    return {"label": label, "probabilities": np.stack([sure, 1 - sure], axis=1).astype(np.float32)}


@pytest.fixture(scope="module")
def known():
    return reference(outputs(0), Dataset(FIELDS, columns(0)))


def found(known, changed=None, answers=None, rows=ROWS, **settings):
    seen = {**columns(1, rows), **(changed or {})}
    return list(watch(known, [(seen, answers or outputs(1, rows))], **settings))


def test_rows_like_those_before_tell_nothing(known):
    for seed in range(1, 21):
        assert list(watch(known, [(columns(seed, 300), outputs(seed, 300))])) == []


def test_the_sketch_is_small_json_and_the_same_every_time(known):
    assert known == reference(outputs(0), Dataset(FIELDS, columns(0)))
    assert json.loads(known)["format"] == 1
    assert len(known) < 40_000


def test_a_shifted_number_is_named_with_its_size(known):
    (finding,) = found(known, {"age": columns(1)["age"] + 10})
    assert (finding.check, finding.severity, finding.where) == ("drift", "warning", "column age")
    assert finding.figures["effect"] > 0.5
    assert finding.figures["p"] < 1e-6
    assert "of the values are" in finding.message


def test_a_category_that_was_never_seen_is_named(known):
    town = columns(1)["town"]
    town[:60] = "Wien"
    (finding,) = found(known, {"town": town})
    assert finding.where == "column town"
    assert "6.0 % of the rows hold a value that is new, such as 'Wien'" in finding.message


def test_more_gaps_are_drift_also_where_values_are_as_before(known):
    (finding,) = found(known, {"age": columns(1, missing=0.15)["age"]})
    assert finding.where == "column age"
    assert "of the rows have no value" in finding.message
    assert list(finding.figures["aspects"]) == ["missing"]


def test_other_labels_are_drift_of_the_output(known):
    (finding,) = found(known, answers={**outputs(1), "label": outputs(1, yes=0.65)["label"]})
    assert finding.where == "output label"
    assert "of the rows; before, it was" in finding.message


def test_a_model_that_is_less_sure_is_drift_of_the_output(known):
    doubt = np.random.default_rng(3).beta(3, 3, ROWS)
    answers = {**outputs(1), "probabilities": np.stack([doubt, 1 - doubt], axis=1)}
    (finding,) = found(known, answers=answers)
    assert finding.where == "output probabilities"
    assert "of the greatest probabilities are" in finding.message


def test_brighter_images_are_drift(known):
    (finding,) = found(known, {"face": columns(1)["face"] + np.uint8(30)})
    assert finding.where == "column face"
    assert list(finding.figures["aspects"]) == ["mean"]


def test_dates_and_booleans_are_watched_too(known):
    changed = {"since": columns(1)["since"] + 10**11, "member": np.zeros(ROWS, bool)}
    first, second = found(known, changed)
    assert {first.where, second.where} == {"column since", "column member"}
    dates = first if first.where.endswith("since") else second
    assert dates.severity == "note"
    assert "move on by themselves" in dates.hint


def test_a_move_that_is_sure_but_small_is_not_told(known):
    rows = 50_000
    moved = columns(1, rows)["age"] + np.float32(2)
    assert found(known, {"age": moved}, rows=rows) == []
    assert [item.where for item in found(known, {"age": moved}, rows=rows, smallest=0)] == ["column age"]


def test_too_few_rows_are_said_to_be_too_few(known):
    (finding,) = found(known, {"age": columns(1, 99)["age"] + 90}, rows=99)
    assert (finding.check, finding.severity) == ("rows", "note")
    assert "99 rows are too few to tell; at least 100" in finding.message


def test_every_window_is_judged_on_its_own(known):
    moved = {**columns(2, 200), "age": columns(2, 200)["age"] + 10}
    windows = [(columns(1, 200), outputs(1, 200)), (moved, outputs(2, 200)), (columns(3, 200), outputs(3, 200))]
    assert [(item.where, item.figures["window"]) for item in watch(known, windows)] == [("column age", 2)]


def test_a_column_of_almost_only_different_values_is_no_alarm_by_itself():
    fields = (Field("name", "BYTES", kind="category"),)
    drawn = [np.random.default_rng(seed).zipf(1.3, 500).astype(str).astype(object) for seed in range(12)]
    known = reference({"value": np.zeros(500, np.float32)}, Dataset(fields, {"name": drawn[0]}))
    answers = {"value": np.zeros(500, np.float32)}
    assert list(watch(known, [({"name": names}, answers) for names in drawn[1:]])) == []


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_rows_held_back_tell_nothing_and_shifted_ones_do(load):
    x, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = np.array_split(order, 2)
    fields = tuple(Field(f"x{i}", "FP32") for i in range(x.shape[1]))

    def table(rows):
        return {field.name: rows[:, i].astype(np.float32) for i, field in enumerate(fields)}

    known = reference({"label": y[train]}, Dataset(fields, table(x[train])))
    answers = {"label": y[test]}
    assert list(watch(known, [(table(x[test]), answers)], fewest=70)) == []
    shifted = x[test] + x.std(axis=0)
    told = {finding.where for finding in watch(known, [(table(shifted), answers)], fewest=70)}
    assert told == {f"column {field.name}" for field in fields}


def test_digits_turned_to_their_negative_are_drift():
    images = load_digits().images.astype(np.float32)
    fields = (Field("image", "FP32", (-1, 8, 8), kind="image"),)
    sure = {"value": np.linspace(0, 1, 800, dtype=np.float32)}
    known = reference(sure, Dataset(fields, {"image": images[:900]}))
    assert list(watch(known, [({"image": images[900:1700]}, sure)])) == []
    (finding,) = watch(known, [({"image": 16 - images[900:1700]}, sure)])
    assert set(finding.figures["aspects"]) == {"mean", "dark"}


def test_no_reference_is_refused():
    with pytest.raises(RegistryError, match="is no reference"):
        list(watch(b"{}", []))
    with pytest.raises(RegistryError, match="has the format 2; this release reads 1"):
        list(watch(b'{"watched": [], "format": 2}', []))
