"""Cleaning of graphs from elsewhere: what goes, what stays, and that answers are the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from outside import FLOAT, applied, differ, model_of, normal, proto, rows, types

from modelmill.compress.convert.clean import Clean
from modelmill.graph.clean import size, stripped
from modelmill.runtime.session import Session

CONV = {"w": normal(8, 3, 3, 3), "b": normal(8), "s": normal(8) + 1, "t": normal(8), "m": normal(8)}
CONV["v"] = np.abs(normal(8)) + 0.5


def cleaned(made):
    model = model_of(made)
    return model.body.value, applied(Clean(), model, rows(model))


@pytest.mark.parametrize("bias", [True, False])
def test_a_batch_norm_goes_into_the_convolution_before_it(bias):
    nodes = [
        ("Conv", ["x", "w", "b"] if bias else ["x", "w"], ["c"], {"strides": [2, 2]}),
        ("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"], {"epsilon": 0.01}),
        ("Relu", ["n"], ["y"], {}),
    ]
    before, last = cleaned(proto(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 8, 3, 3]}, CONV))
    after = last.result.body.value
    assert types(after) == ["Conv", "Relu"]
    assert differ(before, after, {"x": normal(4, 3, 8, 8, seed=5)}) < 1e-6
    assert "batch norms fused: 1" in last.note


@pytest.mark.parametrize("turned", [0, 1])
def test_a_batch_norm_goes_into_a_gemm_with_alpha_and_beta(turned):
    constants = {"w": normal(*((8, 5) if turned else (5, 8))), "c": normal(1, 8), **{k: CONV[k] for k in "stmv"}}
    nodes = [
        ("Gemm", ["x", "w", "c"], ["g"], {"alpha": 0.5, "beta": 2.0, "transB": turned}),
        ("BatchNormalization", ["g", "s", "t", "m", "v"], ["y"], {}),
    ]
    before, last = cleaned(proto(nodes, {"x": ["n", 5]}, {"y": ["n", 8]}, constants))
    assert types(last.result.body.value) == ["Gemm"]
    assert differ(before, last.result.body.value, {"x": normal(4, 5, seed=5)}) < 1e-6


def test_a_batch_norm_behind_a_value_that_others_read_stays():
    nodes = [
        ("Conv", ["x", "w"], ["c"], {}),
        ("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"], {}),
        ("Add", ["c", "n"], ["y"], {}),
    ]
    before, last = cleaned(proto(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 8, 6, 6]}, CONV))
    assert types(last.result.body.value).count("BatchNormalization") == 1
    assert differ(before, last.result.body.value, {"x": normal(2, 3, 8, 8)}) == 0


def test_identities_dropout_and_what_no_output_needs_go_and_outputs_keep_their_names():
    nodes = [
        ("Identity", ["x"], ["a"], {}),
        ("Dropout", ["a"], ["d", "mask"], {}),
        ("Relu", ["d"], ["r"], {}),
        ("Exp", ["d"], ["nobody"], {}),
        ("Identity", ["r"], ["y"], {}),
        ("Identity", ["r"], ["z"], {}),
    ]
    before, last = cleaned(proto(nodes, {"x": ["n", 4]}, {"y": ["n", 4], "z": ["n", 4]}, {}))
    after = last.result.body.value
    assert sorted(types(after)) == ["Identity", "Relu"]
    columns = {"x": normal(3, 4)}
    found = Session(after).run(columns)
    assert found.keys() == {"y", "z"}
    assert np.array_equal(found["y"], Session(before).run(columns)["y"])
    assert np.array_equal(found["y"], found["z"])


def test_a_weight_that_is_read_as_it_is_as_well_is_not_written_twice():
    nodes = [
        ("Cast", ["x"], ["ids"], {"to": onnx.TensorProto.INT64}),
        ("Gather", ["w", "ids"], ["e"], {"axis": 0}),
        ("Transpose", ["w"], ["t"], {"perm": [1, 0]}),
        ("MatMul", ["e", "t"], ["y"], {}),
    ]
    made = proto(nodes, {"x": ["n"]}, {"y": ["n", 400]}, {"w": normal(400, 64)})
    before, last = cleaned(made)
    assert "Transpose" in types(last.result.body.value)
    assert len(last.result.body.value) <= len(before)


def test_constants_are_worked_out_unless_they_would_take_more_bytes():
    constants = {"w": normal(64, 64), "half": normal(64, 64).astype(np.float16), "one": np.array([1], np.int64)}
    constants["v"] = normal(64, 64, seed=1)
    constants["twin"] = constants["v"].copy()
    nodes = [
        ("Transpose", ["w"], ["wt"], {"perm": [1, 0]}),
        ("Cast", ["half"], ["h"], {"to": FLOAT}),
        ("Constant", [], ["big"], {"value_ints": [200, 64]}),
        ("ConstantOfShape", ["big"], ["zeros"], {}),
        ("ReduceSum", ["zeros"], ["nothing"], {"keepdims": 0}),
        ("MatMul", ["x", "wt"], ["a"], {}),
        ("MatMul", ["a", "h"], ["b"], {}),
        ("MatMul", ["b", "twin"], ["c"], {}),
        ("MatMul", ["c", "v"], ["d"], {}),
        ("Add", ["d", "nothing"], ["y"], {}),
    ]
    before, last = cleaned(proto(nodes, {"x": ["n", 64]}, {"y": ["n", 64]}, constants))
    after = last.result.body.value
    assert "Transpose" not in types(after)
    assert types(after).count("Cast") == types(after).count("ConstantOfShape") == 1
    held = onnx.load_from_string(after).graph.initializer
    assert sum(list(tensor.dims) == [64, 64] for tensor in held) == 3  # the turned one, the half one, and one of twins
    assert differ(before, after, {"x": normal(3, 64)}) < 1e-6


def branching(condition):
    """A graph whose If asks for the number of axes of its input, or for a value that comes in."""
    outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("t_out", "e_out")]
    weight = numpy_helper.from_array(normal(4, 4), "inner")
    then = helper.make_graph([helper.make_node("MatMul", ["r", "inner"], ["t_out"])], "t", [], outputs[:1], [weight])
    alone = helper.make_graph([helper.make_node("Identity", ["r"], ["e_out"])], "e", [], outputs[1:])
    nodes = [
        ("Relu", ["x"], ["r"], {}),
        ("Shape", ["r"], ["s"], {}),
        ("Size", ["s"], ["rank"], {}),
        ("Constant", [], ["two"], {"value_int": 2}),
        ("Equal", ["rank" if condition == "shape" else "n", "two"], ["asked"], {}),
        ("If", ["asked"], ["y"], {"then_branch": then, "else_branch": alone}),
    ]
    made = proto(nodes, {"x": ["rows", 4]}, {"y": ["rows", 4]}, {})
    if condition != "shape":
        made.graph.input.add(name="n").type.tensor_type.elem_type = onnx.TensorProto.INT64
        made.graph.input[1].type.tensor_type.shape.SetInParent()
    return made


def test_a_branch_that_is_always_taken_takes_the_place_of_the_if():
    before, last = cleaned(branching("shape"))
    assert types(last.result.body.value) == ["Relu", "MatMul"]
    assert differ(before, last.result.body.value, {"x": normal(3, 4)}) == 0


def test_a_branch_that_depends_on_what_comes_stays():
    before, last = cleaned(branching("input"))
    after = last.result.body.value
    assert "If" in types(after)
    for n in (1, 2):
        assert differ(before, after, {"x": normal(3, 4), "n": np.array(n)}) == 0


def test_a_graph_that_is_clean_comes_back_as_it_is():
    made = proto([("Relu", ["x"], ["y"], {})], {"x": ["n", 4]}, {"y": ["n", 4]}, {})
    _, last = cleaned(made)
    _, again = cleaned(last.result.body.value)
    assert again.note == "nothing to clean"
    assert again.result.body.value is not None


def test_words_and_metadata_are_not_counted_as_content():
    made = proto([("Relu", ["x"], ["y"], {})], {"x": ["n", 4]}, {"y": ["n", 4]}, {})
    made.graph.node[0].doc_string = "a stack trace with paths" * 50
    before, last = cleaned(made)
    assert len(last.result.body.value) < 0.2 * len(before)


@pytest.mark.parametrize("kind", ["Mul", "Div"])
def test_one_factor_before_a_layer_goes_into_its_weight_and_a_reshape_before_a_flatten_goes(kind):
    constants = {
        "s": np.array([[[0.25]]], np.float32),
        "f": np.array([-1, 1, 4, 4]),
        "w": normal(5, 16),
        "b": normal(5),
    }
    nodes = [
        ("Reshape", ["x", "f"], ["r"], {}),
        (kind, ["r", "s"], ["m"], {}),
        ("Flatten", ["m"], ["l"], {}),
        ("Gemm", ["l", "w", "b"], ["y"], {"transB": 1}),
    ]
    before, last = cleaned(proto(nodes, {"x": ["n", 4, 4]}, {"y": ["n", 5]}, constants))
    assert types(last.result.body.value) == ["Flatten", "Gemm"]
    assert differ(before, last.result.body.value, {"x": normal(3, 4, 4, seed=5)}) < 1e-6
    assert "factors taken into layers: 1" in last.note


@pytest.mark.parametrize("other", ["output", "reader", "column", "axes"])
def test_a_factor_that_others_read_or_that_does_more_than_multiply_stays(other):
    constants = {"s": np.array(0.5, np.float32), "w": normal(4, 3)}
    constants |= {"column": {"s": normal(4)}, "axes": {"s": np.array([[[0.5]]], np.float32)}}.get(other, {})
    nodes = [("Mul", ["x", "s"], ["m"], {}), ("MatMul", ["m", "w"], ["y"], {})]
    outputs = {"y": [1, "n", 3] if other == "axes" else ["n", 3]}
    if other == "reader":
        nodes.append(("Relu", ["m"], ["z"], {}))
        outputs["z"] = ["n", 4]
    if other == "output":
        outputs["m"] = ["n", 4]
    before, last = cleaned(proto(nodes, {"x": ["n", 4]}, outputs, constants))
    after = last.result.body.value
    assert "Mul" in types(after)
    assert differ(before, after, {"x": normal(3, 4, seed=5)}) == 0


def test_the_size_of_a_model_is_told_without_writing_it():
    made = proto(
        [("Gemm", ["x", "w", "b"], ["y"], {})],
        {"x": ["n", 40]},
        {"y": ["n", 90]},
        {"w": normal(40, 90), "b": normal(90)},
    )
    model = onnx.load_from_string(model_of(made).body.value)
    assert size(model) == len(stripped(model))
