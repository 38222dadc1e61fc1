"""`modelmill monitor` and `Loaded.watch`, on a model that was really built."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_iris

import modelmill
from modelmill.api import registry
from modelmill.cli import run as run_inside
from modelmill.errors import RegistryError


@pytest.fixture
def rows(in_built, tmp_path):
    """Write rows of iris, moved by `shift`, as a file that `iris` takes."""

    def write(shift=0.0, start=0):
        path = tmp_path / "rows.csv"
        names = [field.name for field in modelmill.load("iris").version.signature.inputs]
        x = load_iris().data[start:]
        x = x + np.array([shift, 0, 0, 0])
        np.savetxt(path, x, "%.2f", ",", header=",".join(names), comments="")
        return path

    return write


def test_a_published_version_holds_a_small_reference(in_built):
    version = modelmill.load("iris").version
    assert 0 < version.sizes["reference.json"] < 30_000


def test_the_rows_of_before_did_not_drift(rows, capsys):
    assert run_inside(["monitor", "iris", "--input", str(rows())]) == 0
    assert capsys.readouterr().out.startswith("Nothing drifted")
    assert run_inside(["monitor", "iris", "--input", "iris", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "iris@1", "findings": []}


def test_moved_rows_are_told_in_a_table_and_as_json(rows, capsys):
    path = str(rows(shift=1.5))
    assert run_inside(["monitor", "iris", "--input", path]) == 0
    assert "column sepal length (cm)" in capsys.readouterr().out
    assert run_inside(["monitor", "iris", "--input", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "column sepal length (cm)" in [finding["where"] for finding in document["findings"]]


def test_answers_without_a_class_are_drift_of_the_label(rows):
    where = [finding.where for finding in modelmill.load("iris").watch(rows(start=50))]
    assert "output label" in where
    assert "column petal width (cm)" in where


def test_windows_hold_the_rows_asked_for_at_least(rows):
    assert [finding.figures["rows"] for finding in modelmill.load("iris").watch(rows(), window=60)] == [75, 75]


def test_a_version_without_a_reference_is_refused_with_what_to_do(in_built, home, capsys):
    # `home` follows `in_built`: the files are copied by hand into a home of this test.
    source = registry(in_built)
    version = source.find("iris")
    files = {"model.onnx": source.file(version, "model.onnx")}
    registry(home).publish("old", files, version.signature)
    assert run_inside(["monitor", "old", "--input", "iris", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "without a reference" in error["message"]
    assert "modelmill build" in error["try"]
    with pytest.raises(RegistryError, match="without a reference"):
        modelmill.load("old").watch("iris")
