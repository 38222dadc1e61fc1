"""Factoring of graphs from elsewhere."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from outside import applied, differ, model_of, normal, proto, rows, types

from modelmill.compress.factor.svd import Svd


def thin(outputs, inputs, rank, seed=0):
    return normal(outputs, rank, seed=seed) @ normal(rank, inputs, seed=seed + 1)


CASES = {
    "MatMul": (("MatMul", ["x", "w"], ["y"], {}), {"w": thin(32, 24, 4).T}, ["n", 5, 24], ["n", 5, 32]),
    "Gemm": (("Gemm", ["x", "w", "b"], ["y"], {"transB": 1}), {"w": thin(32, 24, 4), "b": normal(32)}, None, None),
    "Conv": (
        ("Conv", ["x", "w", "b"], ["y"], {"strides": [2, 2]}),
        {"w": thin(32, 24, 4)[:, :, None, None], "b": normal(32)},
        ["n", 24, 6, 6],
        ["n", 32, 3, 3],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_layer_of_low_rank_becomes_two_that_answer_the_same(kind):
    node, constants, given, gives = CASES[kind]
    made = proto([node], {"x": given or ["n", 24]}, {"y": gives or ["n", 32]}, constants)
    model = model_of(made)
    last = applied(Svd(energy=0.9999), model, rows(model))
    after = last.result.body.value
    assert len(types(after)) == 2
    assert "32x24 to rank 4 (0.0% of its squares lost)" in last.note
    weights = [t for t in onnx.load_from_string(after).graph.initializer if len(t.dims) > 1]
    assert sum(np.prod(t.dims) for t in weights) == 4 * (32 + 24)
    assert differ(model.body.value, after, rows(model).test.columns) < 1e-5


def test_a_layer_of_full_rank_stays_and_the_last_one_stays_whole_by_ratio():
    nodes = [("MatMul", ["x", "w"], ["h"], {}), ("Relu", ["h"], ["r"], {}), ("MatMul", ["r", "v"], ["y"], {})]
    made = proto(nodes, {"x": ["n", 16]}, {"y": ["n", 16]}, {"w": normal(16, 16), "v": normal(16, 16, seed=3)})
    model = model_of(made)
    last = applied(Svd(energy=0.9999), model, rows(model))
    assert last.result is model
    assert "nothing is factored" in last.note
    halved = applied(Svd(by="ratio", ratio=0.5), model, rows(model)).result.body.value
    assert types(halved) == ["MatMul", "MatMul", "Relu", "MatMul"]


def test_grouped_and_wide_convolutions_are_left_alone():
    nodes = [("Conv", ["x", "w"], ["h"], {"group": 2}), ("Conv", ["h", "v"], ["y"], {})]
    made = proto(
        nodes, {"x": ["n", 8, 6, 6]}, {"y": ["n", 8, 4, 4]}, {"w": normal(8, 4, 1, 1), "v": normal(8, 8, 3, 3)}
    )
    model = model_of(made)
    assert applied(Svd(by="ratio"), model, rows(model)).result is model
