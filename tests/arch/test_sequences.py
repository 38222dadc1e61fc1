"""Sequences from a file to answers: read, built, published, asked again, and served."""

from __future__ import annotations

import numpy as np
import pytest
import tomli_w
from sklearn.datasets import load_digits

import modelmill
from modelmill.client import Client
from modelmill.errors import ContentError, SpecError
from modelmill.method import decode
from modelmill.model import Body, Part
from modelmill.prepare.chain import prepare
from modelmill.recipe.grow import features_kind, picked_spec, untrained
from modelmill.recipe.look import look
from modelmill.registry.registry import Registry
from modelmill.runtime.features import features
from modelmill.serve.server import Service
from modelmill.spec import read
from modelmill.store.home import Home

DIGITS = load_digits()


@pytest.fixture
def file(tmp_path):
    """Digits as what a scanner would say: 8 steps of 8 numbers."""
    path = tmp_path / "scans.npz"
    np.savez(path, x=DIGITS.images[:600].astype(np.float32), y=DIGITS.target[:600])
    return path


def spec_of(path, arch):
    data = {"method": "npz", "path": str(path), "kind": "sequence"}
    return {"data": data, "arch": arch, "compress": [{"method": "quantize.dynamic"}], "goal": {"budget": "1 trials"}}


def test_sequences_are_built_published_and_answer_as_they_were_judged(file, home, tmp_path):
    table = spec_of(file, {"method": "rnn", "unit": "lstm", "width": 16})
    table["workers"] = 1
    table["train"] = {"method": "adam", "epochs": 15, "learning_rate": 0.02}
    (tmp_path / "run.toml").write_text(tomli_w.dumps(table))
    report = modelmill.build(str(tmp_path / "run.toml"), name="scans")
    assert report.metrics["accuracy"].value > 0.8
    place = Home(home)
    registry = Registry(place.database, place.blobs)
    (field,) = registry.find("scans").signature.inputs
    assert (field.name, field.kind, field.shape) == ("sequence", "sequence", (-1, 8, 8))
    rows = [{"sequence": row.tolist()} for row in DIGITS.images[600:640]]
    said = modelmill.load("scans").predict(rows)["label"]
    assert (said == DIGITS.target[600:640]).mean() > 0.7
    with Service(registry) as service:
        assert Client(service.url).predict("scans", rows)["label"].tolist() == said.tolist()


@pytest.mark.parametrize("steps", ["first", "last"])
def test_steps_come_last_whichever_axis_they_had(file, steps):
    job = look(read(spec_of(file, {"method": "rnn"}))).job
    step = decode("prepare", {"method": "sequence", "by": "none", "steps": steps})
    prepared = prepare([step], job.splits.train.take(np.arange(5)), "sequence")
    rows = job.splits.train.take(np.arange(5))
    found = features(Part(Body("network", None), prepared.fragment), job.signature, rows)
    raw = rows.columns["sequence"]
    np.testing.assert_array_equal(found, raw.transpose(0, 2, 1) if steps == "first" else raw)


@pytest.mark.parametrize(
    ("source", "arch", "shape"),
    [
        ("digits", {"method": "rnn"}, (8, 8)),
        ("digits", {"method": "transformer", "patch": 2}, (1, 8, 8)),
        ("wine", {"method": "rnn"}, (1, 13)),
        ("wine", {"method": "transformer"}, (13,)),
    ],
)
def test_data_are_read_as_what_the_body_takes(source, arch, shape):
    job = look(read({"data": {"method": "builtin", "name": source}, "arch": arch})).job
    model = untrained(job, picked_spec(job, {}), job.splits.train, 0)
    assert model.body.features == shape


def test_every_body_of_a_search_reads_sequences_its_own_way(file):
    kinds = {"mlp": "table", "rnn": "sequence", "transformer": "sequence"}
    job = look(read(spec_of(file, {"any": [{"method": name} for name in kinds]}))).job
    for name, kind in kinds.items():
        assert features_kind(job.splits.train, {"method": name}) == kind
        model = untrained(job, picked_spec(job, {"arch": name}), job.splits.train, 0)
        assert len(model.body.features) == (1 if kind == "table" else 2)


@pytest.mark.parametrize("arch", ["depthwise", "darknet53", "cnn"])
def test_a_body_for_images_is_refused_before_any_work_on_other_data(file, arch):
    for table in (
        spec_of(file, {"method": arch}),
        {"data": {"method": "builtin", "name": "wine"}, "arch": {"method": arch}},
    ):
        with pytest.raises(SpecError, match=rf"arch\.{arch}: takes image features, and these data are a"):
            look(read(table))


def test_a_search_over_sequences_needs_no_more_than_the_file(file):
    table = spec_of(file, {})
    del table["arch"], table["compress"]
    spec = look(read(table)).job.spec
    assert [option["method"] for option in spec.arch["any"]] == ["rnn", "cell", "transformer"]
    assert [step["method"] for step in spec.prepare] == ["sequence"]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 3, 2, 1)), r"shape \(4, 3, 2, 1\); expected \(rows, steps\)"),
        (np.full((4, 3, 2), np.nan), "holds steps that are not finite"),
        (np.zeros((4, 0, 2)), "has sequences of the shape"),
    ],
)
def test_arrays_that_are_no_sequences_are_refused(tmp_path, x, message):
    np.savez(tmp_path / "bad.npz", x=x, y=np.arange(4))
    with pytest.raises(ContentError, match=message):
        decode("data", {"method": "npz", "path": str(tmp_path / "bad.npz"), "kind": "sequence"})()
