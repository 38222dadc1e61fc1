"""Texts, floats that JSON has no form for, rows that depend on each other: every model is asked as it can be."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper, save_model

pytest.importorskip("grpc")

from modelmill.api import import_model
from modelmill.conform.run import checks, examine, outcome
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
