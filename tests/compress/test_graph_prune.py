"""Channels of graphs from elsewhere: followed, cut, and made up for."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import torch
from outside import applied, differ, model_of, normal, proto, rows, types
from torch import nn

from modelmill.compress.prune.follow import follow
from modelmill.compress.prune.leaving import DAMPING, Sums, greedy
from modelmill.compress.prune.subset import Subset
from modelmill.compress.quantize.graphs import load
from modelmill.graph.foreign import trace


def pruned(made, ratio=0.5, **settings):
    model = model_of(made)
    last = applied(Subset(ratio=ratio, multiple=1, **settings), model, rows(model, 256))
    return model.body.value, last


def sizes(data):
    """The shapes of all constants with more than one axis."""
    return sorted(tuple(t.dims) for t in onnx.load_from_string(data).graph.initializer if len(t.dims) > 1)


def test_copies_of_neurons_go_and_the_next_layer_makes_up_for_them_exactly():
    one, two = normal(6, 8, seed=1), normal(8, 5, seed=2)
    nodes = [("Gemm", ["x", "w", "b"], ["h"], {}), ("Tanh", ["h"], ["t"], {}), ("Gemm", ["t", "v", "c"], ["y"], {})]
    constants = {
        "w": np.tile(one, 2),
        "b": normal(16)[:8].repeat(1),
        "v": np.concatenate([two, two * 3]),
        "c": normal(5),
    }
    constants["b"] = np.tile(constants["b"], 2)
    before, last = pruned(proto(nodes, {"x": ["n", 6]}, {"y": ["n", 5]}, constants))
    after = last.result.body.value
    assert sizes(after) == [(6, 8), (8, 5)]
    assert differ(before, after, {"x": normal(20, 6, seed=9)}) < 1e-3


def test_a_dead_channel_of_a_convolution_goes_first_through_norm_pool_and_flatten():
    weight = normal(8, 3, 3, 3)
    weight[[2, 5]] = 0
    constants = {"w": weight, "s": normal(8) + 1, "t": normal(8), "m": normal(8), "v": np.abs(normal(8)) + 0.5}
    constants |= {"f": normal(8 * 4, 5), "shape": np.array([-1, 32], np.int64), "k": normal(8, 8, 1, 1, seed=4)}
    nodes = [
        ("Conv", ["x", "w"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], ["r"], {}),
        ("BatchNormalization", ["r", "s", "t", "m", "v"], ["n"], {}),
        ("MaxPool", ["n"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Reshape", ["p", "shape"], ["l"], {}),
        ("Gemm", ["l", "f"], ["y"], {}),
    ]
    before, last = pruned(proto(nodes, {"x": ["n", 3, 4, 4]}, {"y": ["n", 5]}, constants), ratio=0.25)
    after = last.result.body.value
    assert sizes(after) == [(6, 3, 3, 3), (24, 5)]
    assert differ(before, after, {"x": normal(20, 3, 4, 4, seed=9)}) < 1e-3


class Mixed(nn.Module):
    """A residual sum, a depthwise convolution, squeeze and excitation, and a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(16, 24, 1), nn.Hardswish())
        self.depth = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.squeeze = nn.Sequential(nn.Conv2d(24, 8, 1), nn.ReLU(), nn.Conv2d(8, 24, 1), nn.Sigmoid())
        self.back = nn.Conv2d(24, 16, 1)
        self.side = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.depth(self.wide(x))
        y = y * self.squeeze(y.mean((2, 3), keepdim=True))
        x = x + self.back(y)
        x = torch.cat([x, torch.relu(self.side(x))], 1)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.norm = nn.LayerNorm(16)
        self.first, self.last, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 3)

    def forward(self, x):
        weights = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(2)
        x = self.norm(x + weights @ self.value(x))
        x = x + self.last(nn.functional.gelu(self.first(x)))
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.cell = nn.Linear(6, 12), nn.LSTM(12, 8, batch_first=True)
        self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        out, _ = self.cell(torch.relu(self.before(x)))
        return self.head(torch.relu(self.hidden(out[:, -1])))


@cache
def exported(make, shape):
    torch.manual_seed(0)
    return trace(make(), shape)


def test_residual_depthwise_excitation_and_concatenation_are_cut_together():
    before, last = pruned(exported(Mixed, (3, 8, 8)))
    found = sizes(last.result.body.value)
    assert (8, 3, 3, 3) in found  # the stem, with the residual sum and both readers
    assert (12, 1, 3, 3) in found  # depthwise, with what widens and what squeezes
    assert (4, 8, 3, 3) in found  # the side, which reads the sum
    assert {(4, 12), (12, 4)} & set(found)  # the head reads what is left of both
    assert differ(before, last.result.body.value, {"x": normal(9, 3, 8, 8)}) < 0.7


def test_small_cuts_cost_less_with_recalibration():
    made = exported(Mixed, (3, 8, 8))
    name = made.graph.input[0].name
    columns = {name: normal(64, 3, 8, 8, seed=7, scale=1.0)}
    before, last = pruned(made, ratio=0.2)
    assert differ(before, last.result.body.value, columns) < 0.3


def test_hidden_neurons_of_a_transformer_go_and_attention_stays():
    before, last = pruned(exported(Attention, (5, 16)))
    found = sizes(last.result.body.value)
    assert {(16, 16)} <= set(found)
    assert {(16, 32), (32, 16)}.isdisjoint(found)
    assert "stays whole" in last.note or "channels" in last.note
    assert len(last.result.body.value) < len(before)


def test_what_a_recurrent_layer_reads_stays_and_what_follows_it_goes():
    model = model_of(exported(Recurrent, (5, 6)))
    first, *_, last = Subset(ratio=0.5, multiple=1)(model, rows(model), None, lambda _: 0.0, 0)
    assert "LSTM reads it" in first.note
    assert "16 to 8 channels" in first.note
    assert "LSTM" in types(last.result.body.value)


def test_where_nothing_can_be_cut_the_reasons_are_said():
    nodes = [("Gemm", ["x", "w"], ["h"], {}), ("Softmax", ["h"], ["s"], {}), ("Gemm", ["s", "v"], ["y"], {})]
    made = proto(nodes, {"x": ["n", 6]}, {"y": ["n", 5]}, {"w": normal(6, 8), "v": normal(8, 5)})
    _, last = pruned(made)
    assert "nothing is removed" in last.note
    assert "Softmax reads it" in last.note
    assert "it is an output" in last.note


def test_a_grouped_convolution_holds_what_it_reads():
    nodes = [("Conv", ["x", "w"], ["h"], {}), ("Conv", ["h", "v"], ["y"], {"group": 2})]
    made = proto(
        nodes, {"x": ["n", 3, 6, 6]}, {"y": ["n", 4, 6, 6]}, {"w": normal(8, 3, 1, 1), "v": normal(4, 4, 1, 1)}
    )
    spaces = follow(load(made.SerializeToString()))
    assert spaces.free() == []
    assert "Conv reads it" in spaces.reasons()


def test_channels_leave_as_least_squares_over_the_rest_tells_each_time():
    rng = np.random.default_rng(0)
    width, size, outputs = 150, 2, 4
    count = width * size
    inputs = rng.normal(size=(900, count)) @ rng.normal(size=(count, count)) / 9 + rng.normal(size=(900, count))
    seen = np.concatenate([inputs, np.ones((900, 1))], 1)
    weight, square = rng.normal(size=(outputs, count)).astype(np.float32), seen.T @ seen / 900
    stays = greedy([Sums(square.copy(), weight, 0, width, size)], 10)

    damped = square + np.eye(count + 1) * DAMPING * np.diag(square).mean()
    rows, inverse = np.concatenate([weight, np.zeros((outputs, 1))], 1).astype(float), np.linalg.inv(damped)
    left = list(range(width))
    while len(left) > 10:  # the same, with whole matrices
        costs = []
        for channel in left:
            own = slice(channel * size, channel * size + size)
            costs.append(np.sum(np.linalg.solve(inverse[own, own], rows[:, own].T) * rows[:, own].T))
        gone = left.pop(int(np.argmin(costs)))
        own = slice(gone * size, gone * size + size)
        solved = np.linalg.solve(inverse[own, own], inverse[own])
        rows = rows - rows[:, own] @ solved
        inverse = inverse - inverse[:, own] @ solved
    assert stays.tolist() == left
