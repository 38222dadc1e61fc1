"""Single weights go by what a criterion says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.compress.prune.gradients import saliency
from modelmill.compress.prune.masking import masks, prunable, zeros
from modelmill.compress.prune.movement import Movement
from modelmill.compress.prune.weights import Weights
from modelmill.errors import ModelError
from modelmill.task.classify import Classify
from modelmill.train.rows import Rows
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 16, "depth": 2}


@pytest.mark.parametrize("criterion", ["magnitude", "gradient", "movement"])
@pytest.mark.parametrize("scope", ["local", "global", "adaptive"])
def test_the_asked_share_becomes_zeros_by_every_criterion(make, judge, criterion, scope):
    model, data, task = make("table", MLP)
    model = list(Adam(epochs=4)(model, data, task, judge, 0))[-1].result
    step = Weights(ratio=0.75, criterion=criterion, scope=scope, epochs=6)
    first, *_, last = step(model, data, task, judge, 0)
    assert "the share 0.75 becomes zeros" in first.note
    assert zeros(last.result.body.value) == pytest.approx(0.75, abs=0.02)


def test_movement_without_epochs_is_refused_before_any_work(make, judge):
    model, data, task = make("table", MLP)
    with pytest.raises(ModelError, match="without epochs of retraining no weight moves"):
        next(iter(Weights(criterion="movement", epochs=0)(model, data, task, judge, 0)))


def test_the_gradient_criterion_is_what_the_loss_would_change_by():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2)).eval()
    rows = Rows(torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 1, 0]), None, np.zeros(6))
    loss = Classify().loss(network(rows.features), rows.encoded, None, 0.0)
    (gradient,) = torch.autograd.grad(loss, [network[0].weight])
    found = saliency(network, rows, Classify(), 6)
    assert torch.allclose(found["0.weight"], (gradient * network[0].weight).abs(), atol=1e-7)


def test_movement_sums_minus_weight_times_gradient_and_brings_weights_back():
    network = nn.Sequential(nn.Linear(2, 1, bias=False))
    weight = network[0].weight
    weight.data.copy_(torch.tensor([[2.0, -1.0]]))
    movement = Movement(network)
    (3 * weight[0, 0] + 5 * weight[0, 1]).backward()
    assert movement.scores["0.weight"].tolist() == [[-6.0, 5.0]]
    mask = {"0.weight": torch.tensor([[False, True]])}
    movement.bring_back(mask)
    weight.data.mul_(mask["0.weight"])
    weight.grad = None
    (-4 * weight[0, 0] + 0 * weight[0, 1]).backward()
    assert movement.scores["0.weight"].tolist() == [[2.0, 5.0]]
    weight.data[0, 1] = 7.0
    movement.bring_back({"0.weight": torch.tensor([[True, True]])})
    assert weight.tolist() == [[2.0, 7.0]]


def test_scores_and_not_sizes_say_what_goes():
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    scores = {"0.weight": torch.tensor([[-3.0, 1.0], [-1.0, 2.0]])}
    for scope in ("local", "global", "adaptive"):
        assert masks(network, 0.5, scope, scores)["0.weight"].tolist() == [[False, True], [False, True]]


def test_adaptive_scope_keeps_more_of_layers_that_few_weights_carry():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.Linear(100, 2))
    found = masks(network, 0.9, "adaptive")
    kept = {name: float(mask.float().mean()) for name, mask in found.items()}
    assert kept["1.weight"] > 3 * kept["0.weight"]
    total = sum(int(mask.sum()) for mask in found.values())
    assert total == round(0.1 * (100 * 100 + 200))


def test_a_threshold_cuts_what_is_small_in_its_layer(make, judge):
    model, data, task = make("table", {"method": "mlp", "width": 16, "depth": 2})
    *_, last = Weights(threshold=0.5, epochs=0)(model, data, task, judge, 0)
    for name, weight in prunable(model.body.value).items():
        small = weight.abs() < 0.5 * weight.pow(2).mean().sqrt()
        assert torch.equal(prunable(last.result.body.value)[name] == 0, small)
    with pytest.raises(ModelError, match="a threshold is for sizes, not for gradient"):
        next(iter(Weights(threshold=0.5, criterion="gradient")(model, data, task, judge, 0)))
