"""Texts, floats that JSON has no form for, rows that depend on each other: every model is asked as it can be."""

from __future__ import annotations

import json

import pytest
from onnx import TensorProto, helper, save_model

pytest.importorskip("grpc")

from modelmill.api import import_model
from modelmill.cli import run as run_inside
from modelmill.conform.run import checks, examine, outcome
from modelmill.conform.tensors import Rows, as_input, read_bytes
from modelmill.registry.registry import Registry
from modelmill.serve.server import Service
from modelmill.store.home import Home


def model(kind, shape, operator="Identity", **attributes):
    """An ONNX model of one input and one output of that kind."""
    inputs, outputs = ([helper.make_tensor_value_info(name, kind, shape)] for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "kinds", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


MODELS = {
    "text": model(TensorProto.STRING, ["rows"]),
    "column": model(TensorProto.STRING, ["rows", 1]),
    "halves": model(TensorProto.FLOAT16, ["rows", 3]),
    "shares": model(TensorProto.FLOAT, ["rows", 2], "Softmax", axis=0),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    place, folder = Home(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("models")
    for name, made in MODELS.items():
        save_model(made, folder / f"{name}.onnx")
        import_model(folder / f"{name}.onnx", place=place)
    with Service(Registry(place.database, place.blobs), grpc_port=0) as service:
        yield service


def seen(service, name):
    """What came of every check of a model."""
    subject, _ = examine(service.url, service.grpc_url, name, timeout_s=20)
    found = [outcome(check, subject) for check in checks(subject)]
    assert [each for each in found if each.verdict == "deviates"] == []
    return {each.id: each for each in found}


@pytest.mark.parametrize("name", ["text", "column"])
def test_a_raw_text_has_no_length_before_it(service, name):
    assert seen(service, name)["binary.raw"].verdict == "holds"


def test_rows_that_depend_on_each_other_are_noted_and_no_deviation(service):
    found = seen(service, "shares")
    assert found["core.infer.batch"].verdict == "holds"
    assert found["core.infer.batch.alone"].verdict == "left out"
    assert "these do: y is" in found["core.infer.batch.alone"].came


def test_floats_that_json_has_no_form_for_are_asked_as_bytes(service):
    found = seen(service, "halves")
    left = {name for name, each in found.items() if each.verdict == "left out" and each.group != "robustness"}
    in_json = {"core.infer.type", "core.infer.nested", "binary.outputs.all", "core.grpc.infer.typed"}
    assert left == {*in_json, "core.infer.order", "binary.mixed"}
    for name in ("core.infer", "core.infer.elements", "statistics", "grpc.stream", "robustness.input.data.longer"):
        assert found[name].verdict == "holds"


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_bytes_of_halves_are_two_an_element_and_rows_differ(datatype):
    tensor = {"name": "x", "datatype": datatype, "shape": [-1, 2]}
    rows = [as_input(tensor, Rows((number,), "varied")) for number in (0, 1)]
    assert [len(row["data"]) for row in rows] == [4, 4]
    first, second = (read_bytes(row, row["data"]) for row in rows)
    assert first == pytest.approx([3.80, 1.61], rel=0.01)
    assert first != second


@pytest.mark.parametrize(("lists_bytes", "conforms"), [(True, False), (False, None)])
def test_a_server_that_answers_no_halves_is_not_said_to_conform(unable, capsys, lists_bytes, conforms):
    app, url = unable
    app.lists_bytes = lists_bytes
    assert run_inside(["conform", url, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["conformant"] is conforms
    assert run_inside(["conform", url]) == 1
    words = {False: "The server does not conform.", None: "Whether the server conforms is not known"}
    assert words[conforms] in capsys.readouterr().out
