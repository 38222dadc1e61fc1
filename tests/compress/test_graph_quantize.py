"""Quantization of graphs from elsewhere: other layers, several inputs, branches, older operators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper
from outside import FLOAT, INT64, applied, differ, model_of, normal, proto, rows, types

from modelmill.compress.quantize.blocks import Blocks
from modelmill.compress.quantize.codebook import Codebook
from modelmill.compress.quantize.dynamic import Dynamic
from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.float16 import Float16
from modelmill.compress.quantize.sharing import clustered
from modelmill.compress.quantize.static import Static
from modelmill.errors import ModelError


def wave(opset):
    """1-D convolutions over sound, with weights that are Constants, as other exporters write them."""
    nodes = [
        ("Constant", [], ["w"], {"value": onnx.numpy_helper.from_array(normal(16, 2, 5), "w")}),
        ("Conv", ["x", "w"], ["c"], {"strides": [2]}),
        ("Relu", ["c"], ["r"], {}),
        ("Conv", ["r", "v"], ["d"], {}),
        ("GlobalAveragePool", ["d"], ["p"], {}),
        ("Flatten", ["p"], ["f"], {}),
        ("MatMul", ["f", "m"], ["y"], {}),
    ]
    constants = {"v": normal(12, 16, 3, seed=2), "m": normal(12, 8, seed=3)}
    return proto(nodes, {"x": ["n", 2, 40]}, {"y": ["n", 8]}, constants, opset)


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_convolutions_of_one_axis_compute_in_integers_at_any_opset(opset):
    model = model_of(wave(opset))
    data = rows(model)
    after = applied(Static(), model, data).result.body.value
    assert not {"Conv", "MatMul"} & set(executed(after))
    assert onnx.load_from_string(after).opset_import[0].version == opset
    assert differ(model.body.value, after, data.test.columns) < 0.05
    assert len(after) < 0.6 * len(model.body.value)


def towers():
    """Two inputs, one of them numbers that rows of a table are looked up by."""
    nodes = [
        ("Gather", ["table", "ids"], ["e"], {}),
        ("ReduceMean", ["e"], ["m"], {"axes": [1], "keepdims": 0}),
        ("Concat", ["m", "x"], ["c"], {"axis": 1}),
        ("Gemm", ["c", "w", "b"], ["h"], {"transB": 1}),
        ("Relu", ["h"], ["r"], {}),
        ("MatMul", ["r", "v"], ["y"], {}),
    ]
    constants = {"table": normal(500, 16), "w": normal(32, 24), "b": normal(32), "v": normal(32, 8)}
    made = proto(nodes, {"x": ["n", 8]}, {"y": ["n", 8]}, constants)
    made.graph.input.append(helper.make_tensor_value_info("ids", INT64, ["n", "tokens"]))
    return made


def looked_up(model, count=64):
    ids = np.random.default_rng(0).integers(0, 500, (count, 6))
    return rows(model, count, columns={"x": normal(count, 8, seed=5, scale=1.0), "ids": ids})


@pytest.mark.parametrize(
    ("step", "integers"),
    [(Static(), "QGemm"), (Dynamic(), "DynamicQuantizeMatMul"), (Blocks(bits=8, smallest=64), "MatMulNBits")],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_several_inputs_are_calibrated_and_tables_take_a_byte_a_number(step, integers):
    model = model_of(towers())
    data = looked_up(model)
    after = applied(step, model, data).result.body.value
    assert integers in executed(after)
    assert differ(model.body.value, after, data.test.columns) < 0.05
    kinds = {t.name: t.data_type for t in onnx.load_from_string(after).graph.initializer if list(t.dims) == [500, 16]}
    assert set(kinds.values()) == ({FLOAT} if isinstance(step, Static) else {onnx.TensorProto.INT8})


def test_a_column_that_is_missing_is_named():
    model = model_of(towers())
    data = looked_up(model)
    part = replace(data.train, columns={"x": data.train.columns["x"]})
    with pytest.raises(ModelError, match="the graph takes 'ids', which the data have not"):
        applied(Static(), model, replace(data, train=part))


def branched():
    """A branch that reads what stands behind an activation, as does what follows it."""
    outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("a", "z")]
    then = helper.make_graph([helper.make_node("ReduceSum", ["r"], ["a"], keepdims=0)], "t", [], outputs[:1])
    other = helper.make_graph([helper.make_node("ReduceMax", ["r"], ["z"], keepdims=0)], "e", [], outputs[1:])
    nodes = [
        ("Conv", ["x", "w"], ["c"], {}),
        ("Relu", ["c"], ["r"], {}),
        ("Conv", ["r", "v"], ["y"], {}),
        ("ReduceSum", ["x"], ["s"], {"keepdims": 0}),
        ("Greater", ["s", "zero"], ["asked"], {}),
        ("If", ["asked"], ["i"], {"then_branch": then, "else_branch": other}),
    ]
    constants = {"w": normal(8, 3, 3, 3), "v": normal(8, 8, 3, 3), "zero": np.array(0, np.float32)}
    return proto(nodes, {"x": ["n", 3, 8, 8]}, {"i": [], "y": ["n", 8, 4, 4]}, constants)


def test_a_branch_reads_activations_and_not_what_was_before_them():
    model = model_of(branched())
    data = rows(model)
    after = applied(Static(), model, data).result.body.value
    assert "If" in types(after)
    assert "QLinearConv" in executed(after)
    for sign in (1, -1):
        columns = {"x": np.abs(normal(2, 3, 8, 8, scale=1.0)) * np.float32(sign)}
        assert differ(model.body.value, after, columns) < 0.05


def recurrent():
    nodes = [
        ("LSTM", ["x", "w", "u"], ["o", "h", ""], {"hidden_size": 16}),
        ("Squeeze", ["h", "first"], ["s"], {}),
        ("MatMul", ["s", "v"], ["y"], {}),
    ]
    constants = {"w": normal(1, 64, 12), "u": normal(1, 64, 16), "v": normal(16, 4), "first": np.array([0], np.int64)}
    return proto(nodes, {"x": [6, "n", 12]}, {"y": ["n", 4]}, constants)


@pytest.mark.parametrize(("step", "share"), [(Float16(), 0.6), (Codebook(bits=8, epochs=0), 0.6)])
def test_recurrent_weights_are_stored_in_fewer_bytes(step, share):
    model = model_of(recurrent())
    after = applied(step, model, rows(model)).result.body.value
    assert len(after) < share * len(model.body.value)
    assert differ(model.body.value, after, {"x": normal(6, 3, 12)}) < 0.02


def test_centroids_are_where_weights_are_many_when_there_are_many_of_them():
    rng = np.random.default_rng(0)
    weight = np.concatenate([rng.normal(size=20000), rng.normal(size=200) * 30]).astype(np.float32)
    table, codes = clustered(weight, 256)
    evenly = np.linspace(weight.min(), weight.max(), 256)
    nearest = evenly[np.abs(weight[:, None] - evenly).argmin(1)]
    assert ((table[codes] - weight) ** 2).mean() < 0.05 * ((nearest - weight) ** 2).mean()
