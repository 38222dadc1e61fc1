from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelmill.compress.convert.onnx import Onnx
from modelmill.compress.quantize.dynamic import Dynamic
from modelmill.compress.quantize.graphs import followers, heavy, load
from modelmill.compress.quantize.static import Static
from modelmill.compress.quantize.tidy import tidy
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam


def graph(make, judge, kind, arch, epochs=6):
    model, data, task = make(kind, arch)
    trained = list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result
    return list(Onnx()(trained, data, task, judge, 0))[-1].result, data, task


def types(model):
    return [node.op_type for node in onnx.load_from_string(model.body.value).graph.node]


def initializers(model):
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(model.body.value).graph.initializer
    }


def answers(model, dataset):
    return Session(model.body.value).run(from_dataset(dataset))


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_convolutions_compute_in_8_bits_and_answer_nearly_the_same(make, judge, per_channel, residual):
    model, data, task = graph(make, judge, "image", {"method": "cnn", "width": 8, "depth": 2, "residual": residual})
    *_, last = Static(per_channel=per_channel)(model, data, task, judge, 0)
    assert last.values["size_bytes"] < 0.75 * last.values["size_bytes_before"]
    assert "nodes compute in 8 bits; the file shrank from" in last.note
    before, after = answers(model, data.test), answers(last.result, data.test)
    assert np.abs(before["probabilities"] - after["probabilities"]).mean() < 0.02
    assert (before["label"] == after["label"]).mean() > 0.95


def test_text_columns_go_through_and_only_the_network_is_quantized(make, judge):
    model, data, task = graph(make, judge, "table", {"method": "mlp", "width": 32, "depth": 2})
    result = list(Static()(model, data, task, judge, 0))[-1].result
    assert types(result).count("QuantizeLinear") == 3  # the features, and what lies between three layers
    for kept in set(types(model)) - {"Relu", "Gemm"}:
        assert types(result).count(kept) == types(model).count(kept)
    assert (answers(model, data.test)["label"] == answers(result, data.test)["label"]).mean() > 0.95


def test_seven_bits_keep_weights_small_enough_for_any_processor(make, judge):
    model, data, task = graph(make, judge, "image", {"method": "mlp", "width": 16, "depth": 1})
    found = {}
    for bits in (7, 8):
        result = list(Static(weight_bits=bits)(model, data, task, judge, 0))[-1].result
        found[bits] = max(
            np.abs(value.astype(int)).max() for value in initializers(result).values() if value.dtype == np.int8
        )
    assert found[7] <= 64
    assert found[8] == 127


@pytest.mark.parametrize("calibration", ["entropy", "percentile"])
def test_other_calibrations_work_and_print_nothing(make, judge, capsys, calibration):
    model, data, task = graph(make, judge, "image", {"method": "mlp", "width": 16, "depth": 1})
    result = list(Static(calibration=calibration)(model, data, task, judge, 0))[-1].result
    assert "QuantizeLinear" in types(result)
    assert capsys.readouterr().out == ""


def test_dynamic_quantization_stores_a_quarter(make, judge):
    model, data, task = graph(make, judge, "image", {"method": "mlp", "width": 128, "depth": 1})
    *_, last = Dynamic()(model, data, task, judge, 0)
    assert last.values["size_bytes"] < 0.35 * last.values["size_bytes_before"]
    assert "MatMulInteger" in types(last.result)


@pytest.mark.parametrize("method", [Static(), Dynamic()])
def test_where_nothing_can_be_quantized_the_model_comes_back_with_a_note(make, judge, method):
    model, data, task = graph(make, judge, "table", {"method": "mlp", "width": 2, "depth": 0})
    *_, last = method(model, data, task, judge, 0)
    assert last.result is model
    assert "nothing to quantize" in last.note


def test_a_file_that_grew_says_so(make, judge):
    model, data, task = graph(make, judge, "table", {"method": "mlp", "width": 2, "depth": 1})
    *_, last = Static(smallest=1)(model, data, task, judge, 0)
    assert last.values["size_bytes"] > last.values["size_bytes_before"]
    assert "the file grew" in last.note


def test_batch_norms_of_foreign_graphs_are_folded_first(make, judge):
    import torch

    torch.manual_seed(0)
    weight, scale = np.random.default_rng(0).normal(size=(8, 1, 3, 3)), np.linspace(0.5, 2, 8)
    constants = {"w": weight, "s": scale, "b": scale, "m": scale, "v": scale, "d": np.ones((8, 3))}
    nodes = [
        helper.make_node("Cast", ["image"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["c", "axis"], ["x"]),
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("BatchNormalization", ["y", "s", "b", "m", "v"], ["n"]),
        helper.make_node("GlobalAveragePool", ["n"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    body = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 8, 8])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]),
        ],
        [
            *(numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model, data, task = make("image", {"method": "mlp", "width": 2, "depth": 1})
    foreign = model.with_body(made.SerializeToString(), "graph", "")
    result = list(Static(smallest=24)(foreign, data, task, judge, 0))[-1].result
    assert "BatchNormalization" not in types(result)
    before, after = answers(foreign, data.test), answers(result, data.test)
    assert np.abs(before["probabilities"] - after["probabilities"]).max() < 0.1


def test_only_nodes_with_large_constant_weights_and_what_follows_them_are_chosen(make, judge):
    model, *_ = graph(make, judge, "image", {"method": "cnn", "width": 4, "depth": 1}, epochs=1)
    loaded = load(model.body.value)
    by_name = {node.name: node.op_type for node in loaded.graph.node}
    chosen = heavy(loaded, frozenset({"Conv", "Gemm"}), 100)
    assert [by_name[name] for name in chosen] == ["Conv", "Gemm"]
    assert {by_name[name] for name in followers(loaded, chosen)} == {"Relu", "Flatten"}


def test_tidying_a_graph_keeps_what_it_computes(make, judge):
    model, data, _ = graph(make, judge, "table", {"method": "mlp", "width": 16, "depth": 1}, epochs=1)
    tidied = tidy(load(model.body.value))
    assert len(tidied) <= len(model.body.value)
    before, after = answers(model, data.test), Session(tidied).run(from_dataset(data.test))
    assert np.array_equal(before["probabilities"], after["probabilities"])
