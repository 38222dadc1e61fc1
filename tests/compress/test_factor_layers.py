"""Layers are replaced by thinner ones: by pencil, in torch, and in the runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.compress.factor.decompositions import halves, lost, rank, spectrum, tucker
from modelmill.compress.factor.layers import replaced
from modelmill.compress.factor.svd import Svd
from modelmill.compress.factor.thinner import cost
from modelmill.compress.factor.tucker import Tucker
from modelmill.graph.export import export
from modelmill.network.slicing import channels, parameters
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.answer import forward
from modelmill.train.rows import rows
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 32, "depth": 2}
CNN = {"method": "cnn", "width": 16, "depth": 2, "residual": True, "head": "average"}


def of_rank(outputs, inputs, count, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(outputs, count)) @ random.normal(size=(count, inputs))


def low_rank_kernel(outputs, inputs, ranks, places, seed=0):
    random = np.random.default_rng(seed)
    core = random.normal(size=(*ranks, places))
    left, right = random.normal(size=(outputs, ranks[0])), random.normal(size=(inputs, ranks[1]))
    return np.einsum("abk,oa,ib->oik", core, left, right)


def test_the_halves_of_a_matrix_of_low_rank_are_the_matrix():
    matrix = of_rank(12, 9, 3)
    left, right = halves(matrix, 3)
    assert (left.shape, right.shape) == ((12, 3), (3, 9))
    assert lost(matrix, left @ right) < 1e-20
    values = np.linalg.svd(matrix, compute_uv=False)
    left, right = halves(matrix, 2)
    assert lost(matrix, left @ right) == pytest.approx(values[2] ** 2 / (values**2).sum())


def test_the_rank_is_the_smallest_that_holds_the_energy():
    values = np.array([3.0, 2.0, 1.0])
    assert [rank(values, energy) for energy in (9 / 14, 0.65, 13 / 14, 0.93, 1.0)] == [1, 2, 2, 3, 3]


def test_tucker_finds_the_ranks_that_a_kernel_was_made_of():
    kernel = low_rank_kernel(10, 8, (3, 2), 9)
    assert (rank(spectrum(kernel, 0), 1 - 1e-9), rank(spectrum(kernel, 1), 1 - 1e-9)) == (3, 2)
    core, left, right = tucker(kernel, (3, 2))
    assert lost(kernel, np.einsum("abk,oa,ib->oik", core, left, right)) < 1e-20


def test_orthogonal_iteration_is_at_least_as_close_as_the_start():
    kernel = np.random.default_rng(0).normal(size=(12, 10, 9))
    core, left, right = tucker(kernel, (4, 3))
    starts = [np.linalg.svd(np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1))[0] for axis in (0, 1)]
    first = np.einsum("oik,oa,ib->abk", kernel, starts[0][:, :4], starts[1][:, :3])
    assert (core**2).sum() >= (first**2).sum()
    assert np.allclose(left.T @ left, np.eye(4))
    assert np.allclose(right.T @ right, np.eye(3))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("inputs", "ranks"), [(8, (3, 2)), (2, (3, 2)), (8, (12, 2))])
def test_a_convolution_of_low_rank_answers_the_same_when_it_is_factored(inputs, ranks, stride):
    conv = nn.Conv2d(inputs, 12, 3, stride=stride, padding=2, dilation=2)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(low_rank_kernel(12, inputs, ranks, 9)).view(conv.weight.shape))
    x = torch.rand(2, inputs, 8, 8)
    before = conv(x)
    network, said = replaced(nn.Sequential(conv), Tucker(energy=1 - 1e-9)._split)
    assert said == [f"0: 12x{inputs}x3x3 to ranks {ranks[0]} and {ranks[1]} (0.0% of its squares lost)"]
    assert torch.allclose(network(x), before, atol=1e-3)
    weights = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))
    assert weights == cost(conv, ranks)[0] < conv.weight.numel()


def test_a_layer_is_left_alone_where_two_would_not_be_smaller():
    torch.manual_seed(0)
    layers = [nn.Linear(10, 10), nn.Conv2d(4, 4, 3), nn.Conv2d(8, 8, 3, groups=8)]
    network = nn.Sequential(*layers)
    for step in (Svd(energy=1), Tucker(energy=1)):
        assert replaced(network, step._split) == (network, [])
    assert list(network) == layers


def test_a_layer_of_one_by_one_is_a_matrix_and_a_shared_one_stays_shared():
    shared = nn.Conv1d(16, 16, 1, stride=1)
    network, said = replaced(nn.Sequential(shared, nn.ReLU(), shared), Svd(by="ratio", ratio=0.5)._split)
    assert said[0].startswith("0: 16x16 to rank 4")
    assert len(said) == 1
    assert network[0] is network[2]
    assert network(torch.rand(2, 16, 5)).shape == (2, 16, 5)


def test_layers_inside_of_foreign_modules_stay():
    encoder = nn.TransformerEncoderLayer(8, 2, 32, batch_first=True)
    _, said = replaced(nn.Sequential(nn.Linear(8, 8), encoder), Svd(by="ratio", ratio=0.5)._split)
    assert [line.split(":")[0] for line in said] == ["0"]
    assert isinstance(encoder.linear1, nn.Linear)


@pytest.mark.parametrize("cls", [Svd, Tucker])
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_by_ratio_every_factored_layer_saves_at_least_that_share(cls, ratio):
    layer = nn.Linear(30, 20) if cls is Svd else nn.Conv2d(30, 20, 3)
    network, said = replaced(nn.Sequential(layer), cls(by="ratio", ratio=ratio)._split)
    assert said
    weights = sum(module.weight.numel() for module in network.modules() if hasattr(module, "weight"))
    assert 0.7 * (1 - ratio) * layer.weight.numel() < weights <= (1 - ratio) * layer.weight.numel()


@pytest.mark.parametrize(
    ("step", "kind", "arch"), [(Svd(by="ratio", epochs=3), "table", MLP), (Tucker(epochs=2), "image", CNN)]
)
def test_what_is_factored_is_announced_smaller_and_answers_in_the_runtime_as_the_network(make, judge, step, kind, arch):
    model, data, task = make(kind, arch)
    model = list(Adam(epochs=4)(model, data, task, judge, 0))[-1].result
    first, *_, last = step(model, data, task, judge, 0)
    network, graph = last.result.body.value, export(last.result, task)
    assert first.values["weights"] == parameters(network) < parameters(model.body.value)
    assert "of its squares lost" in first.note
    assert len(graph) < len(export(model, task))
    answers = Session(graph).run(from_dataset(data.test))["probabilities"]
    raw = forward(network, rows(last.result, data.test, task).features)
    assert np.allclose(answers, raw.softmax(1), atol=1e-4)
    assert len(channels(network)) > len(channels(model.body.value)), "ranks can be pruned like other channels"


def test_by_ratio_the_layer_that_answers_stays_whole(make, judge):
    model, data, task = make("table", MLP)
    last = model.body.value[-1]
    with torch.no_grad():
        last.weight.copy_(torch.arange(2.0)[:, None].expand_as(last.weight))
    by_ratio, by_energy = (next(iter(step(model, data, task, judge, 0))).note for step in (Svd(by="ratio"), Svd()))
    assert "32x32 to rank 8" in by_ratio
    assert "6: 2x32 to rank 1" in by_energy
    assert "6: 2x32" not in by_ratio


def test_where_nothing_gets_smaller_the_model_comes_through(make, judge):
    model, data, task = make("table", {"method": "mlp", "width": 2, "depth": 1})
    (only,) = Svd(energy=1)(model, data, task, judge, 0)
    assert only.result is model
    assert only.note == "nothing is factored: no layer gets smaller at energy 1"
