"""A pipeline answers the rows of a file as a model does: block by block, and from where an earlier run was killed."""

from __future__ import annotations

import json

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet
from typer.testing import CliRunner

import modelmill
from modelmill.bulk.answer import Pace, answer_file
from modelmill.cli import app
from modelmill.errors import ContentError, ModelError, RegistryError, RequestError, UnknownModel, UsageError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.registry.registry import Registry
from modelmill.serve.server import Service
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

SMALL = Pace(runners=3, block_rows=64, text_bytes=4096)


def scale(factor, rows=-1):
    """A model that multiplies its one input."""
    writer = Writer()
    writer.rename(writer.op("Mul", ["x", writer.constant(np.array(factor, np.float32))]), "y")
    inputs, outputs = (Field("x", "FP32", (rows,), nullable=True),), (Field("y", "FP32", (rows,)),)
    return to_onnx(writer.fragment(), inputs, outputs), Signature("compute", inputs, outputs)


def picky():
    """A model that takes no value below 0, and none above 2: it looks them up."""
    writer = Writer()
    table = writer.constant(np.array([10, 20, 30], np.float32))
    writer.rename(writer.op("Gather", [table, writer.op("Cast", ["x"], {"to": 7})]), "y")
    inputs, outputs = (Field("x", "FP32"),), (Field("y", "FP32"),)
    return to_onnx(writer.fragment(), inputs, outputs), Signature("compute", inputs, outputs)


def steps(first="scale@1"):
    return {
        "outputs": ["label", "scaled"],
        "steps": [
            {
                "model": "letters",
                "inputs": {"c0": "scaled", "c1": "c1", "c2": "c2", "kind": "kind"},
                "outputs": {"label": "label", "probabilities": "unused"},
            },
            {"model": first, "inputs": {"x": "c0"}, "outputs": {"y": "scaled"}},
        ],
    }


@pytest.fixture
def place(tmp_path, monkeypatch, model):
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "home"))
    place = Home(tmp_path / "home")
    registry = Registry(place.database, place.blobs)
    for name, (onnx, signature) in (("scale", scale(-2)), ("scale", scale(-2)), ("letters", model)):
        registry.publish(name, {"model.onnx": onnx}, signature)
    modelmill.publish_pipeline("joined", steps(), place=place)
    return place


@pytest.fixture
def registry(place):
    return Registry(place.database, place.blobs)


def expected(model, path):
    """What the steps answer, asked one after the other in Python."""
    rows = [{name: row[name] for name in ("c0", "c1", "c2", "kind")} for row in parquet.read_table(path).to_pylist()]
    rows = [{**row, "c0": None if row["c0"] is None else -2 * row["c0"]} for row in rows]
    return modelmill.load("letters").predict(rows)["label"].tolist(), [row["c0"] for row in rows]


def test_a_file_is_answered_as_the_steps_would_with_a_row_a_row(place, model, rows, tmp_path):
    path, output = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    parquet.write_table(rows(700), path)
    done = CliRunner().invoke(app, ["predict", "joined", "--input", str(path), "--output", str(output), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["model"], said["rows"], said["resumed_rows"]) == ("joined@1", 700, 0)
    labels, scaled = expected(model, path)
    found = parquet.read_table(output)
    assert found.column_names == ["label", "scaled"]
    assert found["label"].to_pylist() == labels
    wanted = np.array([np.nan if value is None else value for value in scaled], np.float32)
    np.testing.assert_array_equal(found["scaled"].to_numpy(), wanted)
    # All rows at once, on standard output
    plain = CliRunner().invoke(app, ["predict", "joined", "--input", str(path), "--json"])
    assert [row["label"] for row in json.loads(plain.stdout)["predictions"]] == labels


def test_python_and_the_service_give_the_same(place, registry, rows):
    table = rows(50).drop_columns(["id"]).to_pylist()
    local = modelmill.load("joined").predict(table)
    with Service(registry, ["joined"]) as service, modelmill.Client(service.url) as client:
        served = client.predict("joined", table)
    assert list(local) == list(served) == ["label", "scaled"]
    for name, values in local.items():
        np.testing.assert_array_equal(served[name], values)


def begin(program, signature, path, output):
    """Answer one block, and stop; what the run said first."""
    run = answer_file(program, signature, path, output, pace=SMALL)
    first = next(run)
    next(run)
    run.close()
    return first


def test_a_run_goes_on_where_it_was_and_starts_anew_when_a_step_is_of_another_version(place, rows, tmp_path):
    """Also of a version whose graph is the same to the byte."""
    path, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    csv.write_csv(rows(700), path)
    joined = modelmill.load("joined@1", place)
    *_, last = answer_file(joined.program, joined.version.signature, path, output, pace=SMALL)
    assert last.rows == 700
    whole = output.read_bytes()
    output.unlink()
    assert begin(joined.program, joined.version.signature, path, output).rows == 0
    again = modelmill.load("joined@1", place)
    first, *_ = answer_file(again.program, again.version.signature, path, output, pace=SMALL)
    assert (0 < first.rows < 700, first.note) == (True, "")
    assert output.read_bytes() == whole
    output.unlink()
    begin(joined.program, joined.version.signature, path, output)
    other = modelmill.publish_pipeline("joined", steps("scale@2"), place=place)
    changed = modelmill.load(other.reference, place)
    assert changed.program.graphs["scale@2"] == joined.program.graphs["scale@1"]
    found = begin(changed.program, other.signature, path, output)
    assert (found.rows, found.note) == (0, "an earlier run was with another model")


def test_what_does_not_fit_is_refused_in_the_words_that_a_model_has(place, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("c0,c1,c2,kind\n1,2,3,odd\n1,oops,3,odd\n")
    for name in ("joined", "letters"):
        loaded = modelmill.load(name, place)
        with pytest.raises(ContentError, match=r"rows.csv line 3: the value of c1 is 'oops'; expected a number"):
            list(loaded.answer_file(path, tmp_path / "out.csv"))
        with pytest.raises(RequestError, match=r"rows\[0\]: has no 'kind'"):
            loaded.predict([{"c0": 1, "c1": 2, "c2": 3}])


@pytest.mark.parametrize("count", [8, 19])
def test_a_step_of_a_fixed_number_of_rows_gets_as_many_at_a_time(place, registry, tmp_path, count):
    """Also where the first step takes any number."""
    onnx, signature = scale(10, rows=8)
    registry.publish("steady", {"model.onnx": onnx}, signature)
    chained = [
        {"model": "scale@1", "inputs": {"x": "a"}, "outputs": {"y": "b"}},
        {"model": "steady", "inputs": {"x": "b"}, "outputs": {"y": "c"}},
    ]
    version = modelmill.publish_pipeline("eights", {"steps": chained}, place=place)
    assert [field.shape for field in (*version.signature.inputs, *version.signature.outputs)] == [(8,), (8,)]
    wanted = [-20.0 * n for n in range(count)]
    parquet.write_table(pyarrow.table({"a": np.arange(count, dtype=np.float32)}), tmp_path / "rows.parquet")
    loaded = modelmill.load("eights", place)
    list(loaded.answer_file(tmp_path / "rows.parquet", tmp_path / "out.parquet"))
    assert parquet.read_table(tmp_path / "out.parquet")["c"].to_pylist() == wanted
    with Service(registry, ["eights"]) as service, modelmill.Client(service.url) as client:
        for predict in (loaded.predict, lambda rows: client.predict("eights", rows)):
            assert predict([[n] for n in range(count)])["c"].tolist() == wanted


def test_a_step_that_fails_or_is_gone_is_named(place, registry, tmp_path):
    onnx, signature = picky()
    registry.publish("picky", {"model.onnx": onnx}, signature)
    chained = [
        {"model": "scale@1", "inputs": {"x": "a"}, "outputs": {"y": "b"}},
        {"model": "picky", "inputs": {"x": "b"}, "outputs": {"y": "c"}},
    ]
    modelmill.publish_pipeline("looks", {"steps": chained}, place=place)
    path = tmp_path / "rows.csv"
    path.write_text("a\n-1\n7\n")
    with pytest.raises(ModelError, match=r"^picky@1: cannot be run: .*indices"):
        list(modelmill.load("looks", place).answer_file(path, tmp_path / "out.csv"))
    registry.delete("picky@1", force=True)
    with pytest.raises(UnknownModel, match=r"picky@1: is gone, and the pipeline looks@1 needs it"):
        modelmill.load("looks", place)


def test_what_is_measured_or_watched_of_one_graph_is_not_of_a_pipeline(place, rows, tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(rows(10), path)
    loaded = modelmill.load("joined", place)
    with pytest.raises(UsageError, match=r"joined@1: is a pipeline, .* Evaluate its steps: modelmill evaluate scale@1"):
        loaded.evaluate(str(path))
    with pytest.raises(RegistryError, match="Pipelines have none; watch a step: modelmill monitor scale@1"):
        loaded.watch(path)
