"""Weights rounded column by column, so that outputs are off least."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quantized import arrays, graph, last, off

from modelmill.compress.quantize.calibrate import opened
from modelmill.compress.quantize.columns import by_block, by_channel
from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.gptq import Gptq
from modelmill.compress.quantize.moments import moments
from modelmill.compress.quantize.weights import weights
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session

CNN = {"method": "cnn", "width": 8, "depth": 2, "residual": True}
MLP = {"method": "mlp", "width": 64, "depth": 2}
FLOATS = {"Conv", "Gemm", "MatMul"}


def test_the_second_column_makes_up_for_the_first():
    inputs = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.1]])
    rows = np.array([[0.4, 0.4]])
    codes = by_channel(rows, inputs.T @ inputs, np.array([1.0]), 7, 1e-9)
    assert codes.tolist() == [[0, 1]]  # rounding each alone gives 0 and 0
    blocks = by_block(rows.T, inputs.T @ inputs, 8, 2, 1e-9)
    assert np.abs(inputs @ (blocks.value(2) - rows.T)).max() < 0.01


def test_outputs_are_off_less_than_with_weights_rounded_each_alone():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 24)) + 0.1 * rng.normal(size=(400, 24))
    rows = rng.normal(size=(10, 24))
    step = np.abs(rows).max(1) / 3
    made = by_channel(rows, inputs.T @ inputs / 400, step, 3, 0.01) * step[:, None]
    alone = np.clip(np.round(rows / step[:, None]), -3, 3) * step[:, None]
    assert ((inputs @ (made - rows).T) ** 2).mean() < 0.5 * ((inputs @ (alone - rows).T) ** 2).mean()


def test_columns_in_batches_are_rounded_as_one_after_the_other():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(600, 300)) @ rng.normal(size=(300, 300))
    rows, hessian = rng.normal(size=(5, 300)), inputs.T @ inputs / 600
    step = np.abs(rows).max(1) / 7
    damped = hessian + np.eye(300) * 0.01 * np.diag(hessian).mean()
    after = np.linalg.cholesky(np.linalg.inv(damped)).T
    rest, wanted = rows.copy(), np.zeros(rows.shape)
    for i in range(300):
        wanted[:, i] = np.clip(np.round(rest[:, i] / step), -7, 7)
        rest[:, i + 1 :] -= np.outer((rest[:, i] - wanted[:, i] * step) / after[i, i], after[i, i + 1 :])
    assert np.mean(by_channel(rows, hessian.copy(), step, 7, 0.01) == wanted) > 0.999  # ties may fall either way


def test_squares_are_worked_out_for_few_layers_at_a_time_and_again_when_they_are_asked_for_again(make, judge):
    model, data, _ = graph(make, judge, {"method": "mlp", "width": 900, "depth": 2}, epochs=1)
    loaded, names = opened(model.body.value, 64)
    with moments(loaded, names, data.train, ones=True) as taken:
        first = [taken.take(name) for name in names]
        again = [taken.take(name) for name in reversed(names)][::-1]
        sizes = [value.size for value in taken._held.values()]
    assert sum(sizes) <= max(value.size for value in first)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)
        assert one[-1, -1] == pytest.approx(1)


def test_patches_of_a_convolution_give_what_it_computes(make, judge):
    model, data, _ = graph(make, judge, {"method": "cnn", "width": 4, "depth": 2}, epochs=1)
    loaded, names = opened(model.body.value, 64)
    given = weights(loaded, names)
    rows = data.train.take(np.arange(8))
    with moments(loaded, names, rows) as taken:
        found = {name: taken.take(name) for name in names}
    for node in loaded.graph.node:
        if node.name in given:
            weight = given[node.name]
            assert found[node.name].shape == (weight.rows.shape[1],) * 2
            energy = np.trace(weight.rows @ found[node.name] @ weight.rows.T)
            shown = onnx.ModelProto()
            shown.CopyFrom(loaded)
            del shown.graph.output[:]
            shown.graph.output.add(name=node.output[0]).type.tensor_type.elem_type = 1
            out = next(iter(Session(shown.SerializeToString()).run(from_dataset(rows)).values()))
            bias = arrays_of(loaded)[node.input[2]]
            plain = out - bias.reshape(-1, *[1] * (out.ndim - 2))
            assert energy == pytest.approx(np.square(plain).sum(1).mean(), rel=1e-3)


def arrays_of(loaded):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}


@pytest.mark.parametrize("arch", [CNN, MLP])
def test_few_bits_compute_in_integers_and_stay_within_their_grid(make, judge, arch):
    model, data, task = graph(make, judge, arch)
    made = last(Gptq(bits=3)(model, data, task, judge, 0)).result
    codes = [value for value in arrays(made).values() if value.dtype == np.int8 and value.ndim > 1]
    assert codes
    assert max(np.abs(value.astype(int)).max() for value in codes) == 3
    assert not FLOATS.intersection(executed(made.body.value))
    assert off(model, made, data.test) < 0.05


def test_blocks_of_made_up_weights_run_on_packed_weights(make, judge):
    model, data, task = graph(make, judge, MLP)
    made = last(Gptq(block=16)(model, data, task, judge, 0)).result
    assert executed(made.body.value).count("MatMulNBits") == 3
    assert off(model, made, data.test) < 0.02
