"""Hashed weights: a table, and a hash that numpy and the graph work out alike."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from quantized import answers, arrays, last
from torch import nn

from modelmill.compress.quantize.insert import folded
from modelmill.compress.share.hashed import Hashed
from modelmill.compress.share.hashing import coded, places, shared, table
from modelmill.compress.share.looked import replaced, settled
from modelmill.graph.export import export
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 64, "depth": 2}


def test_the_hash_spreads_weights_over_the_table_and_over_both_signs():
    codes, signs = places(100_000, 1000)
    counts = np.bincount(codes, minlength=1000)
    assert abs(counts.var() / 100 - 1) < 0.3, "as if by chance: the variance of a Poisson count is its mean"
    assert abs(signs.mean()) < 0.02
    assert abs(np.corrcoef(codes[:-1], codes[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(signs[:-1], signs[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(codes, signs)[0, 1]) < 0.02


def test_a_number_of_the_table_is_the_mean_of_its_weights_by_their_signs():
    weight = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    codes, signs = places(600, 50)
    wanted = [(weight.ravel() * signs)[codes == place].mean() for place in range(50)]
    assert np.allclose(table(weight, 50), wanted, atol=1e-6)


def test_hashing_a_hashed_weight_again_changes_nothing():
    torch.manual_seed(0)
    looked = shared(nn.Linear(40, 30), 100)
    weight = looked.weight().detach().numpy()
    assert np.array_equal(
        table(weight, 100)[np.unique(places(1200, 100)[0])],
        looked.table.detach().numpy()[np.unique(places(1200, 100)[0])],
    )


def test_the_gradient_of_a_number_counts_every_weight_by_its_sign():
    layer = nn.Linear(6, 1, bias=False)
    looked = shared(layer, 3)
    x = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]])
    looked(x).sum().backward()
    codes, signs = places(6, 3)
    wanted = np.bincount(codes, x.numpy().ravel() * signs, 3)
    assert looked.table.grad.tolist() == wanted.tolist()


@pytest.mark.parametrize("shape", [(30, 40), (6, 5, 3, 3)])
def test_onnxruntime_works_the_same_weights_out(shape):
    layer = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], 3)
    weight = shared(layer, 77).weight().detach().numpy()
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * len(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(weight, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    coded(proto, "w", weight, 77)
    onnx.checker.check_model(proto)
    made = Session(proto.SerializeToString()).run({"x": np.zeros(shape, np.float32)})["y"]
    assert np.array_equal(made, weight)


def test_the_graph_of_a_hashed_network_answers_as_the_network(make, judge):
    torch.set_num_threads(1)
    model, data, task = make("image", MLP)
    model = last(Adam(epochs=5)(model, data, task, judge, 0)).result
    made = last(Hashed(epochs=0, ratio=0.25)(model, data, task, judge, 0)).result
    network = replaced(
        folded(model.body.value),
        lambda layer: shared(layer, round(layer.weight.numel() * 0.25)) if layer.weight.numel() >= 1024 else layer,
    )
    plain = model.with_body(settled(network), "network", "")
    whole = plain.with_body(export(plain, task), "graph", "")
    assert np.allclose(answers(made, data.test)["probabilities"], answers(whole, data.test)["probabilities"], atol=1e-5)


def test_tables_are_all_that_is_stored_and_training_brings_the_quality_back(make, judge):
    torch.set_num_threads(1)
    model, data, task = make("image", MLP)
    model = last(Adam(epochs=20)(model, data, task, judge, 0)).result
    before = export(model, task)
    right = {}
    for epochs in (0, 20):
        made = last(Hashed(ratio=0.05, epochs=epochs)(model, data, task, judge, 0))
        right[epochs] = (answers(made.result, data.train)["label"] == data.train.target).mean()
    assert right[20] >= right[0]
    assert right[20] > 0.9
    weights = [value for value in arrays(made.result).values() if value.dtype == np.float32]
    assert max(value.size for value in weights) < 0.06 * 64 * 64
    assert len(made.result.body.value) < 0.2 * len(before)


def test_small_layers_stay_as_they_are(make, judge):
    model, data, task = make("image", {"method": "mlp", "width": 8, "depth": 1})
    made = last(Hashed(epochs=1)(model, data, task, judge, 0))
    assert "nothing to share" in made.note
