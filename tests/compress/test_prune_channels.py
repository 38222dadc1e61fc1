"""Whole channels go by what a method says of them: each importance by pencil, and what the engine promises."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.compress.prune.activation import Activation
from modelmill.compress.prune.best_per_class import BestPerClass
from modelmill.compress.prune.blocks import Blocks
from modelmill.compress.prune.boundary import Boundary
from modelmill.compress.prune.counts import together
from modelmill.compress.prune.gates import Gates
from modelmill.compress.prune.gradients import taylor
from modelmill.compress.prune.magnitude import Magnitude
from modelmill.compress.prune.margins import margins, nearest, worth
from modelmill.compress.prune.norm_scale import NormScale
from modelmill.compress.prune.readings import averages, effects
from modelmill.compress.prune.scales import total
from modelmill.compress.prune.subset import Subset
from modelmill.compress.prune.sums import leaving, products
from modelmill.compress.prune.taylor import Taylor
from modelmill.errors import ModelError
from modelmill.graph.digest import digest
from modelmill.graph.export import export
from modelmill.network.graphbody import Graph
from modelmill.network.slicing import channels, parameters
from modelmill.runtime.features import features
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.task.classify import Classify
from modelmill.train.rows import Rows, tensor
from modelmill.train.trainers.adam import Adam

METHODS = [Magnitude, Taylor, Activation, Boundary, Subset, BestPerClass, NormScale]
GLOBAL = [Magnitude, Taylor, Activation, Boundary, NormScale]
RESIDUAL = {"method": "cnn", "width": 8, "depth": 2, "residual": True, "head": "average"}
QUICK = {"epochs": 1, "multiple": 1}


def trained(make, judge, kind="image", arch=RESIDUAL, epochs=2):
    model, data, task = make(kind, arch)
    return list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result, data, task


def mlp(hidden, seed=0, given=3, classes=2):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(given, hidden), nn.ReLU(), nn.Linear(hidden, classes)).eval()


def seen(rows, given=3, classes=2, seed=1):
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, given, generator=random)
    encoded = torch.randint(classes, (rows,), generator=random)
    return Rows(features, encoded, None, np.zeros(rows))


def quick(cls, **settings):
    return cls(**QUICK, **({"penalty_epochs": 1} if cls is NormScale else {}), **settings)


@pytest.mark.parametrize("cls", METHODS)
def test_a_residual_network_is_cut_as_announced_and_answers_the_same_in_the_runtime(make, judge, cls):
    model, data, task = trained(make, judge)
    step = quick(cls, **({"scope": "local"} if cls in GLOBAL else {}))
    first, *_, last = step(model, data, task, judge, 0)
    assert "0: 8 to 4" in first.note
    assert first.values["weights"] == sum(p.numel() for p in last.result.body.value.parameters())
    network = last.result.body.value
    assert network[0].out_channels == 4
    answers = Session(export(last.result, task)).run(from_dataset(data.test))["probabilities"]
    given = tensor(features(model.part, model.signature, data.test))
    assert np.allclose(answers, network(given).softmax(1).detach(), atol=1e-4)


@pytest.mark.parametrize("cls", [*METHODS, Gates])
@pytest.mark.parametrize("join", ["add", "concat"])
def test_cells_with_depthwise_convolutions_are_cut_and_answer_the_same_in_the_runtime(make, judge, cls, join):
    edges = [[1], [0, 1], [1, 0, 1], [0, 1, 0, 1]]
    arch = {"method": "cell", "operations": ["separable3", "conv3", "max"], "edges": edges, "join": join, "width": 8}
    model, data, task = make("image", arch)
    step = Gates(epochs=1, gate_epochs=2, penalty=50, gate_rate=500) if cls is Gates else quick(cls)
    *_, last = step(model, data, task, judge, 0)
    network = last.result.body.value
    assert parameters(network) < (0.6 if join == "add" else 0.9) * parameters(model.body.value)
    answers = Session(export(last.result, task)).run(from_dataset(data.test))["probabilities"]
    given = tensor(features(model.part, model.signature, data.test))
    assert np.allclose(answers, network(given).softmax(1).detach(), atol=1e-4)


@pytest.mark.parametrize("edges", [[[1], [0, 1], [1, 0, 1]], [[1], [0, 1]]])
def test_of_pruned_cells_only_those_can_go_that_still_give_what_they_take(make, judge, edges):
    model, data, task = make("image", {"method": "cell", "edges": edges, "join": "concat", "width": 8})
    *_, pruned = quick(Magnitude)(model, data, task, judge, 0)
    found = [
        list(Blocks(ratio=1, epochs=1)(each, data, task, judge, 0))[-1].result.body.value
        for each in (model, pruned.result)
    ]
    cells = [sum(isinstance(child, Graph) for child in network) for network in found]
    assert cells == [0, 2 if len(edges) > 2 else 0]


@pytest.mark.parametrize("cls", GLOBAL)
def test_layers_cut_together_lose_the_share_and_none_more_than_the_cap(make, judge, cls):
    model, data, task = trained(make, judge)
    widths = [group.width for group in channels(model.body.value)]
    first, *_, last = quick(cls, scope="global", ratio=0.5, most=0.75)(model, data, task, judge, 0)
    left = [group.width for group in channels(last.result.body.value)]
    assert sum(left) == sum(widths) - round(0.5 * sum(widths))
    assert all(now >= before * 0.25 for now, before in zip(left, widths, strict=True))
    assert "no layer may go further than" in first.note


def test_a_cut_that_would_empty_layers_is_held_back_and_says_so(make, judge):
    model, data, task = trained(make, judge)
    notes = [p.note for p in Magnitude(scope="global", ratio=0.95, most=0.5, **QUICK)(model, data, task, judge, 0)]
    assert any("the cap holds all layers back: the share 0.50 goes, not 0.95" in note for note in notes)


def test_a_layer_at_its_cap_passes_what_is_missing_to_others():
    scores = [torch.arange(4.0), torch.arange(10.0, 18.0)]
    assert together(scores, 0.5, [2, 1], 1) == ([2, 4], "")
    assert together(scores, 0.5, [2, 4], 4) == ([4, 4], "")


@pytest.mark.parametrize("cls", [*METHODS, Gates])
def test_a_network_that_cannot_be_followed_is_refused_before_any_work(make, judge, cls):
    model, data, task = make("table", {"method": "mlp", "width": 8, "depth": 1})
    odd = nn.Sequential(*list(model.body.value)[:-1], nn.PReLU(), model.body.value[-1])
    with pytest.raises(ModelError, match="PReLU"):
        next(iter((Gates() if cls is Gates else quick(cls))(model.with_body(odd, "network", ""), data, task, judge, 0)))


@pytest.mark.parametrize("cls", [Boundary, BestPerClass])
def test_what_asks_for_classes_lets_numbers_through(make, judge, cls):
    model, data, task = make("regress", {"method": "mlp", "width": 8, "depth": 1})
    (only,) = cls()(model, data, task, judge, 0)
    assert only.result is model
    assert "classes" in only.note


def test_without_batch_norms_there_are_no_scales_to_judge_by(make, judge):
    model, data, task = make("table", {"method": "mlp", "width": 8, "depth": 1, "norm": False})
    (only,) = NormScale()(model, data, task, judge, 0)
    assert only.result is model
    assert "no layer has channels that this step can judge" in only.note


def test_the_penalty_makes_scales_small(make, judge):
    model, data, task = trained(make, judge)
    before = float(total(model.body.value).detach())
    step = NormScale(scope="global", ratio=0.1, penalty=0.5, penalty_epochs=8, epochs=0, multiple=1, learning_rate=0.02)
    after = list(step(model, data, task, judge, 0))[-1].result.body.value
    assert float(total(after).detach()) < 0.7 * before


def test_batch_norms_are_at_home_with_what_is_left(make, judge):
    model, data, task = trained(make, judge)
    stale = copy.deepcopy(model.body.value)
    for module in stale.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 100
    odd = model.with_body(stale, "network", "")
    *_, last = Magnitude(epochs=0)(odd, data, task, judge, 0)
    assert all(float(m.running_mean.abs().max()) < 50 for m in last.result.body.value if isinstance(m, nn.BatchNorm2d))


def test_taylor_is_the_square_of_gradients_times_weights():
    network, rows, task = mlp(4), seen(6), Classify()
    loss = task.loss(network(rows.features), rows.encoded, None, 0.0)
    weight, bias = torch.autograd.grad(loss, [network[0].weight, network[0].bias])
    wanted = ((weight * network[0].weight).sum(1) + bias * network[0].bias) ** 2
    (found,) = taylor(network, channels(network), rows, task, 6)
    assert torch.allclose(found.float(), wanted, atol=1e-8)


def test_taylor_takes_the_scale_and_shift_of_the_norm_behind_a_layer():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    rows, task = seen(6), Classify()
    loss = task.loss(network(rows.features), rows.encoded, None, 0.0)
    weight, bias = torch.autograd.grad(loss, [network[1].weight, network[1].bias])
    (found,) = taylor(network, channels(network), rows, task, 6)
    assert torch.allclose(found.float(), (weight * network[1].weight + bias * network[1].bias) ** 2, atol=1e-8)


def test_an_effect_is_what_the_output_loses_with_the_channel_where_all_is_linear():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 4, 2)).eval()
    features = torch.rand(5, 1, 4, 4)
    (found,) = effects(network, channels(network), features, lambda raw, rows: raw[:, 0])
    whole = network(features)[:, 0]
    for channel in range(3):
        without = copy.deepcopy(network)
        with torch.no_grad():
            without[2].weight[:, channel * 4 : channel * 4 + 4] = 0
        assert torch.allclose(whole - without(features)[:, 0], found[:, channel].float(), atol=1e-5)


def test_the_margin_counts_only_rows_near_the_boundary():
    network, rows = mlp(4, classes=3), seen(40, classes=3)
    features, encoded = nearest(network, rows, 0.25)
    every = margins(network(rows.features), rows.encoded).detach()
    assert len(features) == 10
    assert float(margins(network(features), encoded).detach().max()) <= float(every.sort().values[10])
    hidden = network[1](network[0](features)).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(margins(network[2](hidden), encoded).sum(), hidden)
    (found,) = worth(network, channels(network), features, encoded)
    assert torch.allclose(found.float(), (hidden * gradient).abs().mean(0), atol=1e-6)


def test_activations_are_those_that_the_next_layer_sees():
    network, rows = mlp(4), seen(300)
    hidden = network[1](network[0](rows.features))
    (mean,) = averages(network, channels(network), rows.features, lambda value: value.abs())
    (apoz,) = averages(network, channels(network), rows.features, lambda value: value != 0)
    assert torch.allclose(mean.mean(0).float(), hidden.mean(0), atol=1e-6)
    assert torch.allclose(apoz.mean(0).float(), (hidden > 0).float().mean(0), atol=1e-6)


def test_a_silent_channel_goes_first(make, judge):
    model, data, task = trained(make, judge, "table", {"method": "mlp", "width": 8, "depth": 1, "norm": False})
    with torch.no_grad():
        model.body.value[0].weight[3] = 0
        model.body.value[0].bias[3] = -1
    for cls in (Activation, Subset, Taylor, Boundary, BestPerClass):
        kept = list(cls(epochs=0)(model, data, task, judge, 0))[-1].result.body.value[0].weight
        assert len(kept) == 4, cls
        assert kept.abs().sum(1).all(), cls


@pytest.mark.parametrize("stride", [1, 2])
def test_the_products_of_channels_are_those_of_what_they_add_to_the_next_sums(stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, padding=1, stride=stride, bias=False)
    network = nn.Sequential(nn.Conv2d(1, 3, 1), conv, nn.Flatten(), nn.Linear(5 * (16 // stride**2), 2)).eval()
    features = torch.rand(4, 1, 4, 4)
    group = channels(network)[0]
    hidden = network[0](features)
    parts = [nn.functional.conv2d(hidden[:, [c]], conv.weight[:, [c]], padding=1, stride=stride) for c in range(3)]
    flat = torch.stack([part.detach().flatten() for part in parts]).double()
    (found,) = products(network, [group], features, 16, 0)
    assert torch.allclose(found, flat @ flat.T, rtol=1e-5)


def test_steps_of_a_sequence_are_added_up_as_pixels_are():
    conv = nn.Conv1d(3, 5, 3, padding=2, dilation=2, stride=2, bias=False)
    network = nn.Sequential(nn.Conv1d(2, 3, 1), conv, nn.Flatten(), nn.Linear(5 * 4, 2)).eval()
    given = torch.rand(4, 2, 8)
    hidden = network[0](given)
    parts = [nn.functional.conv1d(hidden[:, [c]], conv.weight[:, [c]], None, 2, 2, 2) for c in range(3)]
    flat = torch.stack([part.detach().flatten() for part in parts]).double()
    found, _ = products(network, channels(network), given, 4, 0)
    assert torch.allclose(found, flat @ flat.T, rtol=1e-5)


def test_the_subset_rebuilds_the_next_sums_better_than_the_largest_weights():
    network, rows = mlp(24, classes=6), seen(200)
    (found,) = products(network, channels(network), rows.features, 1, 0)
    hidden = network[1](network[0](rows.features)).detach().double()
    weight = network[2].weight.detach().double()

    def off(scores):
        gone = scores.argsort()[:12]
        return float((hidden[:, gone] @ weight[:, gone].T).pow(2).sum())

    assert off(leaving(found)) < 0.7 * off(network[0].weight.detach().norm(dim=1))


@pytest.mark.parametrize("cls", METHODS)
def test_the_same_seed_cuts_the_same_channels(make, judge, cls):
    model, data, task = trained(make, judge)
    first, second = (list(quick(cls)(model, data, task, judge, 3))[-1].result for _ in range(2))
    assert digest(export(first, task)) == digest(export(second, task))
