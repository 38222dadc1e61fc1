"""Files that take rows on another axis, a fixed number of them, or a value for a whole call: every step takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper
from outside import normal, proto

from modelmill.compress import chain
from modelmill.compress.average.smooth import Smooth
from modelmill.compress.distill.filter import Filter
from modelmill.compress.distill.layout import fitted
from modelmill.compress.distill.logistic import Logistic
from modelmill.compress.distill.soft import Soft
from modelmill.compress.distill.tree import Tree
from modelmill.compress.quantize.mixed import Mixed
from modelmill.dataset import Dataset, Splits
from modelmill.errors import ModelError
from modelmill.model import Body, Model, Part
from modelmill.registry.examine import Request, examine
from modelmill.runtime.calls import answers
from modelmill.runtime.session import Session
from modelmill.signature import Field, Signature
from modelmill.task.classify import Classify

LAYOUTS = {
    "one row a call": ({"x": [1, 6]}, 1, []),
    "four rows a call": ({"x": [4, 6]}, 4, []),
    "rows on the second axis": ({"x": [6, "batch"]}, "batch", [("Transpose", ["x"], ["rows"], {"perm": [1, 0]})]),
    "a value for the whole call": ({"x": ["n", 6], "scale": []}, "n", [("Mul", ["x", "scale"], ["rows"], {})]),
    "functions of its own": ({"x": ["n", 6]}, "n", [("Twice", ["x"], ["rows"], {"domain": "mine"})]),
    "three of them": ({"x": ["n", 6], "scale": [3]}, "n", [("Tile3", ["x", "scale"], ["rows"], {})]),
}


@pytest.fixture
def model(request, tmp_path):
    """A classifier of three classes that takes its rows in that way, as it is after its import."""
    inputs, rows, first = LAYOUTS[request.param]
    nodes = [
        *first,
        ("MatMul", ["rows" if first else "x", "w0"], ["a"], {}),
        ("Relu", ["a"], ["b"], {}),
        ("MatMul", ["b", "w1"], ["z"], {}),
    ]
    constants = {"w0": normal(6, 64, scale=1), "w1": normal(64, 3, seed=1, scale=1)}
    made = proto(nodes, inputs, {"z": [rows, 3]}, constants)
    for node in made.graph.node:
        if node.op_type == "Tile3":
            node.CopyFrom(helper.make_node("ReduceSum", ["scale"], ["sum"], keepdims=0))
            made.graph.node.insert(1, helper.make_node("Mul", ["x", "sum"], ["rows"]))
            break
    if "functions" in request.param:
        made.opset_import.append(helper.make_opsetid("mine", 1))
        body = [helper.make_node("Add", ["a", "a"], ["b"])]
        made.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    answer = examine(Request(str(tmp_path / "model.onnx"), str(tmp_path / "made.onnx"), task="classify"))
    signature = Signature("classify", answer.inputs, answer.outputs, answer.classes, "y")
    return Model((Part(Body("graph", (tmp_path / "made.onnx").read_bytes())),), signature)


def splits(model, count=242):
    """Random rows of which the model's own answers are the truth; a value for the whole call is the same in all."""

    def part(seed):
        rng = np.random.default_rng(seed)
        columns = {"x": rng.normal(size=(count, 6)).astype(np.float32)}
        for field in model.signature.inputs[1:]:
            columns[field.name] = np.ones((count, *field.row), np.float32)
        data = Dataset(model.signature.inputs, columns, None, "y")
        return replace(data, target=answers(Session(model.body.value), data, count)["label"])

    return Splits(part(0), part(1), part(2), digest="sha256:0")


STEPS = {
    "mixed by size": Mixed(),
    "mixed by latency": Mixed(by="latency", ratio=0.9),
    "tree": Tree(),
    "logistic": Logistic(),
    "soft": Soft(epochs=3, arch={"method": "mlp", "width": 32, "depth": 1}),
    "filter": Filter(allow_loss=0.02),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("model", LAYOUTS, indirect=True)
def test_a_step_takes_it_and_what_comes_out_is_called_in_the_same_way(model, name):
    data = splits(model)
    made = list(chain.run([STEPS[name]], model, data, Classify(), lambda _: 0.0, 0))[-1].result
    assert made.signature == model.signature
    session = Session(made.body.value)
    assert session.shapes == Session(model.body.value).shapes
    found = answers(session, data.test, 50)
    assert (found["label"] == data.test.target).mean() > 0.7
    single = answers(session, data.test.take(np.arange(9)), 1)
    assert np.allclose(single["probabilities"], found["probabilities"][:9], atol=1e-5)


@pytest.mark.parametrize("model", LAYOUTS, indirect=True)
def test_behind_a_filter_rows_that_are_not_sure_have_the_answers_of_the_model(model):
    data = splits(model)
    *_, last = Filter(allow_loss=0.02)(model, data, Classify(), lambda _: 0.0, 0)
    early = last.values["early"]
    assert 0.05 < early < 0.95, last.note
    wanted = answers(Session(model.body.value), data.valid, 50)["probabilities"]
    found = answers(Session(last.result.body.value), data.valid, 50)["probabilities"]
    assert np.isclose(found, wanted, atol=1e-5).all(axis=1).mean() == pytest.approx(1 - early, abs=0.03)


@pytest.mark.parametrize("model", LAYOUTS, indirect=True)
def test_answers_are_averaged_over_rows_wherever_they_lie_and_not_where_there_is_one(model):
    data = splits(model)
    timed = replace(data, train=replace(data.train, times=np.arange(data.train.rows)))
    step = Smooth(by="moving", window=2)
    if model.signature.inputs[0].rows == 1:
        with pytest.raises(ModelError, match="takes one row a call, which is no series"):
            list(step(model, timed, Classify(), lambda _: 0.0, 0))
        return
    graph = list(step(model, timed, Classify(), lambda _: 0.0, 0))[-1].result.body.value
    four = data.test.take(np.arange(4))
    before, after = (answers(Session(one), four, 4)["probabilities"] for one in (model.body.value, graph))
    assert np.allclose(after[1:], (before[1:] + before[:-1]) / 2, atol=1e-5)
    compute = replace(model, signature=Signature("compute", model.signature.inputs, model.signature.outputs))
    with pytest.raises(ModelError, match="nobody has said which output is to be averaged"):
        list(step(compute, timed, Classify(), lambda _: 0.0, 0))


def test_a_file_whose_calls_have_no_rows_has_nothing_to_teach():
    fields = (Field("scale", "FP32", (), axis=None),)
    data = Dataset(fields, {"scale": np.ones(3, np.float32)}, np.zeros(3, np.int64), "y")
    with pytest.raises(ModelError, match="a call has no rows to learn from"):
        fitted(data, "table")


def test_a_filter_stands_before_a_file_of_another_opset_too(make, judge):
    from quantized import graph

    from modelmill.compress.quantize.stored import upgrade
    from modelmill.graph.clean import load, stripped

    made, data, task = graph(make, judge, {"method": "mlp", "width": 32, "depth": 1}, "table", 5)
    newer = stripped(upgrade(load(made.body.value), 22))
    result = list(Filter(allow_loss=0.1)(made.with_body(newer, "graph", ""), data, task, judge, 0))[-1].result
    assert {entry.version for entry in load(result.body.value).opset_import if not entry.domain} == {22}
    assert len(answers(Session(result.body.value), data.test, 50)["label"]) == data.test.rows
