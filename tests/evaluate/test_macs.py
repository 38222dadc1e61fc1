"""Multiply-adds are what a pencil gives."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelmill.dataset import Dataset
from modelmill.evaluate.costs.macs import Macs, count
from modelmill.signature import Field


def build(nodes, shape, constants, domains=()) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()


def zeros(*shape) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_two_matrix_products_count_their_weights(dense) -> None:
    assert count(dense(32)) == 4 * 32 + 32 * 2


def test_the_rows_of_the_graph_do_not_count() -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    assert count(build([node], ["rows", 8], {"w": zeros(3, 8)})) == 24


@pytest.mark.parametrize(("group", "wanted"), [(1, 8 * 8 * 4 * 2 * 9), (2, 8 * 8 * 4 * 1 * 9)])
def test_a_convolution_counts_its_filter_at_every_place(group: int, wanted: int) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], group=group)
    assert count(build([node], ["rows", 2, 8, 8], {"w": zeros(4, 2 // group, 3, 3)})) == wanted


def test_a_stride_halves_both_sides() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    assert count(build([node], ["rows", 1, 8, 8], {"w": zeros(4, 1, 3, 3)})) == 4 * 4 * 4 * 9


def test_quantized_and_float_convolutions_count_alike() -> None:
    scales = {"s": np.float32(1), "z": np.uint8(0), "sw": np.float32(1), "zw": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["dw"]),
        helper.make_node("Conv", ["d", "dw"], ["y"]),
    ]
    assert count(build(nodes, ["rows", 1, 4, 4], {**scales, "w": np.zeros((2, 1, 3, 3), np.int8)})) == 2 * 2 * 2 * 9
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "sw", "zw", "s", "z"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    assert count(build(nodes, ["rows", 1, 4, 4], {**scales, "w": np.zeros((2, 1, 3, 3), np.int8)})) == 2 * 2 * 2 * 9


def test_weights_count_behind_an_operation_that_shape_inference_does_not_know() -> None:
    nodes = [
        helper.make_node("Strange", ["x"], ["h"], domain="elsewhere"),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    assert count(build(nodes, ["rows", 3], {"w": zeros(7, 5)}, ["elsewhere"])) == 35


def test_trees_multiply_nothing(rows) -> None:
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )
    assert Macs()([build([tree], ["rows", 4], {}, ["ai.onnx.ml"])], rows) == [{"macs": 0.0}]


def test_a_size_that_the_file_leaves_open_is_that_of_the_first_row() -> None:
    model = build([helper.make_node("MatMul", ["x", "w"], ["y"])], ["rows", "steps", 5], {"w": zeros(5, 7)})
    data = Dataset((Field("x", "FP32", (-1, -1, 5), "array"),), {"x": zeros(4, 11, 5)})
    assert Macs()([model], data) == [{"macs": 11 * 5 * 7}]
    assert count(model) == 5 * 7


def test_a_fork_counts_its_dearest_branch_with_weights_from_around_it() -> None:
    def branch(weight):
        return helper.make_graph(
            [helper.make_node("MatMul", ["x", weight], ["out"])],
            "branch",
            [],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        )

    fork = helper.make_node("If", ["yes"], ["y"], then_branch=branch("narrow"), else_branch=branch("wide"))
    constants = {"yes": np.array(True), "narrow": zeros(5, 2), "wide": zeros(5, 70)}
    assert count(build([fork], ["rows", 5], constants)) == 5 * 70
