"""Sums that do not fit on processors without 8-bit dot products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from modelmill.compress.quantize.dynamic import Dynamic
from modelmill.compress.quantize.lsq import Lsq
from modelmill.compress.quantize.saturation import answers, limits, products
from modelmill.compress.quantize.static import Static
from modelmill.evaluate.steps import places
from modelmill.graph.export import export
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam

CONSTANTS = {
    "s": np.float32(0.5),
    "z": np.uint8(1),
    "w": np.array([[127, 1], [127, -1], [-127, 2], [10, 3]], np.int8),
    "ws": np.array([0.25, 2.0], np.float32),
    "wz": np.zeros(2, np.int8),
    "b": np.array([100.0, -1.0], np.float32),
}


def by_hand():
    """A product of four inputs and two outputs."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["f"], axis=1),
        helper.make_node("Gemm", ["d", "f", "b"], ["y"]),
    ]
    body = helper.make_graph(
        nodes,
        "hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


def test_a_product_is_what_a_hand_computes():
    rows = {"x": np.array([[99.5, 99.5, 2.0, 0.5]], np.float32)}  # codes 200, 200, 5, 2
    # first output: 200 * 127 + 200 * 127 = 50800, cut to 32767; 5 * -127 + 2 * 10 = -615; less the zero point, 1 * 137
    first = (32767 - 615 - 137) * 0.5 * 0.25 + 100
    exact = (50800 - 615 - 137) * 0.5 * 0.25 + 100
    # second output: 200 - 200 + 5 * 2 + 2 * 3 = 16; less 1 * (1 - 1 + 2 + 3)
    second = (16 - 5) * 0.5 * 2 - 1
    assert answers(by_hand(), rows)["y"].tolist() == [[pytest.approx(first), pytest.approx(second)]]
    assert answers(by_hand(), rows, cut=False)["y"].tolist() == [[pytest.approx(exact), pytest.approx(second)]]


def test_only_neighbours_are_added_in_16_bits_and_both_ends_are_cut():
    weight = np.array([[127], [1], [127], [1], [-127], [-127], [100]])
    assert products(np.full((1, 7), 255), weight).tolist() == [[2 * 255 * 128 - 32768 + 25500]]
    assert products(np.full((1, 2), 255), np.array([[-64], [-64]])).tolist() == [[-32640]]


@pytest.fixture(scope="module")
def models():
    return {}


def trained(make, judge, models, arch):
    """The graph of a small network whose weights are large where images have ink."""
    torch.set_num_threads(1)
    key = str(arch)
    if key not in models:
        model, data, task = make("image", arch)
        model = list(Adam(epochs=2)(model, data, task, judge, 0))[-1].result
        models[key] = model.with_body(export(model, task), "graph", ""), data, task
    return models[key]


ARCHS = [
    {"method": "cnn", "width": 8, "depth": 2, "residual": True},
    {"method": "cnn", "width": 5, "depth": 2},
    {"method": "mlp", "width": 32, "depth": 2},
]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("method", [Static, Dynamic])
def test_seven_bits_answer_the_same_on_every_processor(make, judge, models, arch, method):
    model, data, task = trained(make, judge, models, arch)
    graph = list(method(weight_bits=7)(model, data, task, judge, 0))[-1].result.body.value
    rows = from_dataset(data.test)
    cut, exact = answers(graph, rows), answers(graph, rows, cut=False)
    assert np.array_equal(cut["probabilities"], exact["probabilities"])
    assert np.allclose(cut["probabilities"], Session(graph).run(rows)["probabilities"], atol=1e-5)


def test_a_graph_with_learned_steps_and_codes_that_are_cut_is_simulated(make, judge):
    torch.set_num_threads(1)
    model, data, task = make("image", ARCHS[0])
    model = list(Adam(epochs=2)(model, data, task, judge, 0))[-1].result
    graph = list(Lsq(epochs=0, activation_bits=6)(model, data, task, judge, 0))[-1].result.body.value
    rows = from_dataset(data.test)
    cut, exact = answers(graph, rows), answers(graph, rows, cut=False)
    assert np.array_equal(cut["probabilities"], exact["probabilities"])
    assert np.allclose(cut["probabilities"], Session(graph).run(rows)["probabilities"], atol=1e-5)


@pytest.mark.parametrize("arch", [ARCHS[0], ARCHS[2]])
@pytest.mark.parametrize("method", [Static, Dynamic])
def test_with_eight_bits_this_processor_answers_as_one_of_the_two_that_are_simulated(make, judge, models, arch, method):
    model, data, task = trained(make, judge, models, arch)
    graph = list(method(weight_bits=8)(model, data, task, judge, 0))[-1].result.body.value
    rows = from_dataset(data.test)
    found = Session(graph).run(rows)["probabilities"]
    cut, exact = (np.abs(answers(graph, rows, way)["probabilities"] - found).max(axis=1) for way in (True, False))
    near, far = sorted((cut, exact), key=np.max)
    assert far.max() > 1e-3
    assert np.mean(near < 1e-5) > 0.9  # a number in the middle between two steps may be rounded either way
    assert near.max() < far.max() / 20


def test_a_graph_without_integers_answers_as_it_does(make, judge, models):
    model, data, _ = trained(make, judge, models, ARCHS[2])
    rows = from_dataset(data.test)
    found = answers(model.body.value, rows)
    assert found.keys() == {"label", "probabilities"}
    assert np.array_equal(found["label"], Session(model.body.value).run(rows)["label"])


def branched(node):
    """A graph that computes on bytes within a branch alone, and one that does in a node of its own."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y"))
    weights = {"w": np.eye(4, dtype=np.int8) * 100, "one": np.float32(1), "zero": np.uint8(0), "zeros": np.int8(0)}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    quantized = [helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"])]
    if node == "If":
        inner = [
            helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
            helper.make_node("DequantizeLinear", ["w", "one", "zeros"], ["f"]),
            helper.make_node("MatMul", ["d", "f"], ["z"]),
        ]
        z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 4])
        branches = {name: helper.make_graph(inner, name, [], [z]) for name in ("then_branch", "else_branch")}
        tensors.append(numpy_helper.from_array(np.array(True), "yes"))
        nodes = [*quantized, helper.make_node("If", ["yes"], ["y"], **branches)]
    else:
        sides = ["q", "one", "zero", "w", "one", "zeros", "one", "zero"]
        made = helper.make_node("QLinearMatMul", sides, ["s"])
        nodes = [*quantized, made, helper.make_node("DequantizeLinear", ["s", "one", "zero"], ["y"])]
    body = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


@pytest.mark.parametrize("node", ["If", "QLinearMatMul"])
def test_what_is_not_simulated_is_said_to_be_untold(node):
    bytes_, saturating, untold = limits(branched(node))
    assert (bytes_ > 0, saturating, untold) == (True, 0, bytes_)
    found = {"instructions": ["avx2"], "exact": True, "bytes": bytes_, "saturating": 0, "untold": untold}
    said = places({"machines": found}, "accuracy")
    assert "not simulated" in said
    assert "the same" not in said


@pytest.mark.parametrize(("pad", "sizes"), [("SAME_UPPER", (6, 5)), ("SAME_LOWER", (6, 5)), ("VALID", (7, 8))])
def test_a_convolution_that_pads_by_itself_is_simulated(pad, sizes):
    random = np.random.default_rng(0)
    weights = {
        "s": np.float32(0.05),
        "z": np.uint8(7),
        "w": random.integers(-9, 9, (3, 2, 3, 2)).astype(np.int8),
        "wz": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["f"]),
        helper.make_node("Conv", ["d", "f"], ["y"], auto_pad=pad, strides=[2, 1]),
    ]
    body = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, *sizes])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    graph = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()
    rows = {"x": random.normal(size=(4, 2, *sizes)).astype(np.float32)}
    np.testing.assert_allclose(answers(graph, rows, cut=False)["y"], Session(graph).run(rows)["y"], atol=1e-4)
