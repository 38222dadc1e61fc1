"""Quantizations of a finished graph: what they store, what onnxruntime runs, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from quantized import answers, arrays, graph, last, off, proto, replace

from modelmill.compress.quantize.blocks import Blocks
from modelmill.compress.quantize.calibrate import opened
from modelmill.compress.quantize.codebook import Codebook
from modelmill.compress.quantize.dynamic import Dynamic
from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.fixed_point import FixedPoint
from modelmill.compress.quantize.float16 import Float16
from modelmill.compress.quantize.gptq import Gptq
from modelmill.compress.quantize.mixed import Mixed
from modelmill.compress.quantize.powers import covering, steps
from modelmill.compress.quantize.smooth import Smooth
from modelmill.compress.quantize.smoothing import links, smooth
from modelmill.compress.quantize.static import Static
from modelmill.compress.quantize.tidy import tidy
from modelmill.compress.quantize.weights import Weight, weights

CNN = {"method": "cnn", "width": 8, "depth": 2, "residual": True}
MLP = {"method": "mlp", "width": 64, "depth": 2}
FLOATS = {"Conv", "Gemm", "MatMul"}


def nodes(model):
    return [node.op_type for node in proto(model).node]


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


def test_a_weight_is_rounded_along_its_channels():
    weight = Weight("w", np.array([[0.9, 4.0], [0.4, -90.0]], np.float32), 1)
    assert weight.rows.tolist() == [[pytest.approx(0.9), pytest.approx(0.4)], [4, -90]]
    assert weight.codes(np.array([0.5, 8.0]), 3).tolist() == [[2, 0], [1, -3]]


def uneven(model):
    """The same graph with two hidden channels a hundred times larger, and their readers that much smaller."""
    loaded, names = opened(model.body.value, 64)
    link = links(loaded, names)[0]
    first, reader = link.makers[0][0], link.readers[0].name
    weights = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in loaded.graph.initializer}
    for name, axis in link.makers:
        np.moveaxis(weights[name], axis, 0)[:2] *= 100
        replace(loaded, name, weights[name])
    weights[reader][:, :2] /= 100
    replace(loaded, reader, weights[reader])
    assert first != reader
    return model.with_body(loaded.SerializeToString(), "graph", "")


@pytest.mark.parametrize("arch", [MLP, {"method": "cnn", "width": 8, "depth": 3}])
def test_smoothing_changes_no_answers_in_floats(make, judge, arch):
    model, data, _ = graph(make, judge, arch)
    loaded, names = opened(model.body.value, 64)
    made, count = smooth(loaded, names, data.train, 0.5)
    assert count == len(names) - (2 if arch is not MLP else 1)
    smoothed = model.with_body(tidy(made), "graph", "")
    before, after = (answers(one, data.test)["probabilities"] for one in (model, smoothed))
    assert np.allclose(before, after, atol=1e-5)
    weights = [tensor.raw_data for one in (model, smoothed) for tensor in proto(one).initializer]
    assert len(set(weights)) > len(proto(model).initializer)


def test_channels_that_are_far_too_large_lose_less_when_smoothed(make, judge):
    model, data, task = graph(make, judge, MLP)
    model = uneven(model)
    static = last(Static()(model, data, task, judge, 0)).result
    smoothed = last(Smooth()(model, data, task, judge, 0)).result
    assert off(model, smoothed, data.test) < 0.2 * off(model, static, data.test)
    assert not FLOATS.intersection(executed(smoothed.body.value))


def test_a_sum_of_two_branches_is_not_smoothed(make, judge):
    model, *_ = graph(make, judge, CNN, epochs=1)
    loaded, names = opened(model.body.value, 64)
    makers = {name: node.op_type for node in loaded.graph.node for name in node.output}
    found = [makers[link.value] for link in links(loaded, names)]
    assert len(found) == 2  # within each residual block


def test_half_precision_halves_the_file_and_computes_as_before(make, judge):
    model, data, task = graph(make, judge, MLP)
    made = last(Float16()(model, data, task, judge, 0))
    assert len(made.result.body.value) < 0.6 * len(model.body.value)
    assert executed(made.result.body.value) == executed(model.body.value)
    assert "size only" in made.note
    assert off(model, made.result, data.test) < 1e-3


def test_a_weight_that_half_precision_cannot_hold_stays(make, judge):
    model, data, task = graph(make, judge, MLP, epochs=1)
    loaded, names = opened(model.body.value, 64)
    first, *_ = weights(loaded, names).values()
    replace(loaded, first.name, first.value * 1e8)
    model = model.with_body(loaded.SerializeToString(), "graph", "")
    made = last(Float16()(model, data, task, judge, 0)).result
    kinds = sorted(value.dtype.name for value in arrays(made).values() if value.ndim == 2)
    assert kinds == ["float16", "float16", "float32"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Static(), "3 nodes will compute in 8 bits, weights in 7"),
        (Dynamic(), "3 nodes will compute in 8 bits, weights in 7"),
        (FixedPoint(), "3 nodes will compute in 8 bits, weights in 7, every scale a power of two"),
        (Codebook(), "large weights will share at most 16 values a layer"),
        (Blocks(), "2 nodes will read weights of 4 bits in blocks of 32"),
        (
            Mixed(),
            "3 nodes will be compared in floats, 8 bits and, if matrices, 4 bits; the size may be 40% of what it is",
        ),
        (Smooth(), "3 nodes will compute in 8 bits, 2 values between them smoothed"),
        (Gptq(), "3 nodes will have their 8384 weights rounded to 4 bits"),
        (Float16(), "3 nodes will have weights in 16 bits"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_will_be_done_is_said_before_it_is_done(make, judge, method, words):
    model, data, task = graph(make, judge, MLP, epochs=1)
    assert next(iter(method(model, data, task, judge, 0))).note.startswith(words)


NOTHING = [FixedPoint(), Codebook(), Blocks(), Mixed(), Smooth(), Gptq(), Gptq(block=32), Float16()]


@pytest.mark.parametrize("method", NOTHING, ids=lambda method: type(method).__name__)
def test_where_no_weight_is_worth_it_the_graph_comes_back_with_a_note(make, judge, method):
    model, data, task = graph(make, judge, {"method": "mlp", "width": 2, "depth": 0}, "table", 1)
    made = last(method(model, data, task, judge, 0))
    assert made.result.body.value == model.body.value
    assert "nothing to" in made.note
