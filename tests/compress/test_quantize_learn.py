"""Training on grids: learned steps, learned ceilings, and what onnxruntime makes of their graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.insert import beyond, layers
from modelmill.compress.quantize.lsq import Lsq
from modelmill.compress.quantize.pact import Pact
from modelmill.compress.quantize.start import best
from modelmill.network.steps import Capped, Rounded, Stepped
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam

FLOATS = {"Conv", "Gemm", "MatMul"}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trained(make, judge, arch, kind="image", epochs=5):
    model, data, task = make(kind, arch)
    return list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result, data, task


def constants(graph):
    return [numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(graph).graph.initializer]


def floats(graph):
    """The single numbers that are floats: steps of activations."""
    return [value for value in constants(graph) if value.ndim == 0 and value.dtype == np.float32]


def accuracy(graph, dataset):
    return float((Session(graph).run(from_dataset(dataset))["label"] == dataset.target).mean())


def test_the_gradient_of_a_step_is_that_of_the_paper():
    grid = Rounded(3)
    grid.start(0.5, signed=True)
    x = torch.tensor([[0.6, -0.7, 9.0, -9.0]], requires_grad=True)
    found = grid(x)
    assert found[0].tolist() == pytest.approx([0.5, -0.5, 1.5, -2.0])
    found.sum().backward()
    inside = (round(1.2) - 1.2) + (round(-1.4) + 1.4)
    by_step = (inside + 3 - 4) / np.sqrt(4 * 3)
    assert grid.log_step.grad.item() == pytest.approx(by_step * 0.5, abs=1e-6)  # of the logarithm: times the step
    assert x.grad.tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize("shape", [(5,), (3, 2, 2)])
def test_the_gradient_of_a_step_by_a_mean_loss_is_the_same_in_a_larger_batch(shape):
    rows, found = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)), []
    for times in (1, 16):
        grid = Rounded(3)
        grid.start(0.5, signed=True)
        grid(rows.repeat(times, *[1] * len(shape))).square().flatten(1).sum(1).mean().backward()
        found.append(grid.log_step.grad.item())
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_the_gradient_of_a_channels_step_is_shared_by_its_weights():
    layer = Stepped(nn.Conv2d(2, 3, 2, bias=False), 3, learned=True)
    with torch.no_grad():
        layer.layer.weight.fill_(9.0)  # beyond three steps: every weight tells the step to grow by three
    layer.start(torch.full((3,), 0.5))
    layer(torch.ones(1, 2, 2, 2)).sum().backward()
    assert layer.log_steps.grad.tolist() == pytest.approx([8 * 3 / np.sqrt(8 * 3) * 0.5] * 3)


def test_only_what_a_ceiling_cuts_teaches_it():
    grid = Capped(2)
    grid.start(1.0, signed=False)  # the ceiling is 3 steps
    x = torch.tensor([-1.0, 0.6, 2.4, 3.5, 7.0], requires_grad=True)
    found = grid(x)
    assert found.tolist() == pytest.approx([0, 1, 2, 3, 3])
    found.sum().backward()
    assert grid.log_ceiling.grad.item() == pytest.approx(2 * 3)  # two numbers, and the logarithm: times the ceiling
    assert x.grad.tolist() == [0, 1, 1, 0, 0]


def test_a_ceiling_of_signed_numbers_uses_all_codes():
    grid = Capped(8)
    grid.start(0.5, signed=True)
    assert (grid.low, grid.high) == (-128, 127)
    assert grid(torch.tensor([-900.0, -0.6, 900.0])).tolist() == pytest.approx([-64, -0.5, 63.5])


def test_a_stronger_pull_leaves_lower_ceilings(make, judge):
    model, data, task = trained(make, judge, {"method": "mlp", "width": 32, "depth": 1})
    scales = []
    for pull in (0.0, 0.1):
        method = Pact(epochs=4, pull=pull, learning_rate=0.02)
        *_, last = method(model, data, task, judge, 0)
        scales.append(sorted(value.item() for value in floats(last.result.body.value))[-1])
    assert scales[1] < scales[0]


def test_weights_of_a_layer_become_whole_steps_of_their_channel():
    layer = torch.nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.9, -0.3, 0.31], [9.0, -3.0, -30.0]]))
    stepped = Stepped(layer, 3, learned=True)
    stepped.start(torch.tensor([0.3, 3.0]))
    assert stepped.codes().tolist() == [[3, -1, 1], [3, -1, -4]]
    assert stepped(torch.eye(3)).T.tolist() == [pytest.approx([0.9, -0.3, 0.3]), pytest.approx([9, -3, -12])]


def test_a_grid_starts_where_rounding_is_off_least():
    numbers = torch.cat([torch.linspace(-1, 1, 1001), torch.tensor([8.0])])[None]
    step = float(best(numbers, -8, 7))
    assert step < 0.5 < 8 / 7  # the one number that is far away is cut


ARCHS = [
    {"method": "cnn", "width": 8, "depth": 2},
    {"method": "cnn", "width": 8, "depth": 2, "residual": True},
    {"method": "mlp", "width": 32, "depth": 2, "activation": "gelu"},
    {"method": "cell", "width": 24},
]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("method", [Lsq(epochs=2), Lsq(epochs=2, bits=4, activation_bits=5), Pact(epochs=2)])
def test_onnxruntime_computes_all_sums_in_integers_and_answers_as_the_network(make, judge, arch, method):
    model, data, task = trained(make, judge, arch)
    first, *_, last = method(model, data, task, judge, 0)
    graph = last.result.body.value
    assert not FLOATS.intersection(executed(graph))
    assert {"QLinearConv", "QGemm"}.intersection(executed(graph))
    assert "layers with" in first.note
    assert last.values["difference"] < 0.01
    assert accuracy(graph, data.test) == 1


def test_fewer_bits_leave_fewer_different_weights(make, judge):
    model, data, task = trained(make, judge, {"method": "mlp", "width": 32, "depth": 1})
    *_, last = Lsq(epochs=1, bits=3)(model, data, task, judge, 0)
    codes = [value for value in constants(last.result.body.value) if value.dtype == np.int8 and value.ndim == 2]
    assert len(codes) == 2
    assert {int(code) for value in codes for code in value.ravel()} == set(range(-4, 4))


def test_learned_steps_at_two_bits_bring_back_what_rounding_lost(make, judge):
    model, data, task = trained(make, judge, {"method": "mlp", "width": 32, "depth": 1})
    before = list(Lsq(epochs=0, bits=2, activation_bits=2)(model, data, task, judge, 0))[-1]
    after = list(Lsq(epochs=6, bits=2, activation_bits=2)(model, data, task, judge, 0))[-1]
    assert after.values["valid_loss"] < before.values.get("valid_loss", np.inf)


def test_a_network_without_large_layers_comes_through_with_a_note(make, judge):
    model, data, task = trained(make, judge, {"method": "mlp", "width": 2, "depth": 0}, "table", 1)
    *_, last = Lsq()(model, data, task, judge, 0)
    assert "nothing to quantize" in last.note
    assert last.result.body.kind == "graph"


def test_values_keep_their_unit(make, judge):
    model, data, task = trained(make, judge, {"method": "mlp", "width": 64, "depth": 1}, "regress", 20)
    *_, last = Lsq(epochs=2, smallest=32)(model, data, task, judge, 0)
    found = Session(last.result.body.value).run(from_dataset(data.test))["value"]
    assert np.corrcoef(found.ravel(), data.test.target)[0, 1] > 0.9
    assert last.values["difference"] < 0.01


def mobile():
    """Depthwise and grouped convolutions, pools, and activations of several kinds."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6()]
    layers += [nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish()]
    layers += [nn.Conv2d(8, 16, 1), nn.LeakyReLU(0.1), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 3)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("method", [Lsq(epochs=1, smallest=16), Pact(epochs=1, smallest=16)])
def test_depthwise_and_grouped_convolutions_compute_in_integers_between_any_activations(make, judge, method):
    model, data, task = make("image", {"method": "mlp"})
    model = list(Adam(epochs=4)(model.with_body(mobile(), "network", ""), data, task, judge, 0))[-1].result
    last = list(method(model, data, task, judge, 0))[-1]
    assert executed(last.result.body.value).count("QLinearConv") == 4
    assert not FLOATS.intersection(executed(last.result.body.value))
    assert last.values["difference"] < 0.01


class Twice(nn.Module):
    """A module with a way of its own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, x):
        return self.inner(self.inner(x))


def test_what_cannot_be_followed_stays_in_floats_and_is_named(make, judge):
    model, data, task = make("image", {"method": "mlp"})
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), Twice(), nn.Linear(16, 3))
    found = list(layers(body, 32))
    assert [layer.out_features for layer in found] == [16, 3]
    assert beyond(body, found, 32) == ["3.inner"]
    first = next(iter(Lsq(epochs=0, smallest=32)(model.with_body(body, "network", ""), data, task, judge, 0)))
    assert first.note.endswith("floats stay in what cannot be followed: 3.inner")
