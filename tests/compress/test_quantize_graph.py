"""Quantizations of a finished graph: what they store, what onnxruntime runs, and what they refuse."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.fixed_point import FixedPoint
from modelmill.compress.quantize.powers import covering, steps
from modelmill.compress.quantize.weights import Weight
from modelmill.graph.export import export
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam

CNN = {"method": "cnn", "width": 8, "depth": 2, "residual": True}
MLP = {"method": "mlp", "width": 64, "depth": 2}
FLOATS = {"Conv", "Gemm", "MatMul"}


def graph(make, judge, arch, kind="image", epochs=5):
    torch.set_num_threads(1)
    model, data, task = make(kind, arch)
    trained = list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result
    return trained.with_body(export(trained, task), "graph", ""), data, task


def last(steps):
    return list(steps)[-1]


def proto(model):
    return onnx.load_from_string(model.body.value).graph


def arrays(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto(model).initializer}


def nodes(model):
    return [node.op_type for node in proto(model).node]


def answers(model, dataset):
    return Session(model.body.value).run(from_dataset(dataset))


def off(model, other, dataset):
    """How far probabilities are off, on average."""
    return np.abs(answers(model, dataset)["probabilities"] - answers(other, dataset)["probabilities"]).mean()


def scales(model):
    """All scales of the pairs of a graph."""
    known = arrays(model)
    pairs = [node for node in proto(model).node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return np.concatenate([known[node.input[1]].ravel() for node in pairs])


def test_a_power_of_two_covers_the_largest_weight_or_is_half_of_that():
    assert [covering(x) for x in (0.9, 1.0, 1.1)] == [1.0, 1.0, 2.0]
    many_small = np.array([[1.05] + [0.26, -0.24] * 50])
    assert steps(many_small, 1).tolist() == [1.0]  # 2 covers 1.05; 1 cuts it by 0.05
    assert steps(np.array([[2.0, 0.4]]), 1).tolist() == [2.0]


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("arch", [CNN, MLP])
def test_fixed_point_has_powers_of_two_for_all_scales_and_computes_in_integers(make, judge, arch, per_channel):
    model, data, task = graph(make, judge, arch)
    found = last(FixedPoint(per_channel=per_channel)(model, data, task, judge, 0)).result
    exponents = np.log2(scales(found).astype(np.float64))
    assert np.array_equal(exponents, exponents.round())
    zeros = {int(value) for value in arrays(found).values() if value.dtype == np.uint8 and value.ndim == 0}
    assert zeros <= {0, 128}
    assert max(np.abs(value.astype(int)).max() for value in arrays(found).values() if value.dtype == np.int8) <= 63
    assert not FLOATS.intersection(executed(found.body.value))
    assert off(model, found, data.test) < 0.02


def test_a_weight_is_snapped_along_its_channels():
    weight = Weight("w", np.array([[0.9, 4.0], [0.4, -90.0]], np.float32), 1)
    assert weight.rows.tolist() == [[pytest.approx(0.9), pytest.approx(0.4)], [4, -90]]
    assert weight.snapped(np.array([0.5, 8.0]), 3).tolist() == [[1.0, 0.0], [0.5, -24.0]]
