from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelmill.train.average import Average, EpochMean, refresh, tensors
from modelmill.train.plan import Plan
from modelmill.train.recipe import Recipe
from modelmill.train.schedule import Plateau, factor, rate


@given(
    schedule=st.sampled_from(["cosine", "one_cycle", "step", "plateau", "constant"]),
    warmup=st.floats(0, 0.9),
    done=st.floats(0, 1),
)
def test_every_schedule_stays_between_zero_and_its_largest_step(schedule, warmup, done):
    assert 0 <= factor(schedule, warmup, done) <= 1


def test_steps_fall_by_ten_twice():
    assert [round(factor("step", 0, done), 3) for done in (0.1, 0.5, 0.9)] == [1.0, 0.1, 0.01]


def test_a_plateau_lowers_the_step_size_by_its_factor_each_time():
    recipe = Recipe(schedule="plateau", learning_rate=0.1, warmup=0.0, plateau_factor=0.5)
    assert [rate(recipe, 0.5, drops) for drops in (0, 1, 2)] == [0.1, 0.05, 0.025]


def test_a_plateau_is_so_many_epochs_without_a_lower_loss():
    plateau = Plateau(patience=2)
    seen = []
    for loss in (5.0, 5.0, 4.0, 4.5, 4.0, float("nan"), 4.5, 3.0, 3.5):
        plateau.look(loss)
        seen.append(plateau.drops)
    assert seen == [0, 0, 0, 0, 1, 1, 2, 2, 2]


def test_while_weights_are_collected_the_step_size_stands_still():
    recipe = Recipe(schedule="cosine", learning_rate=0.1, swa=0.25, swa_rate=0.5)
    assert {rate(recipe, done, 0) for done in (0.75, 0.9, 1.0)} == {0.05}
    assert rate(recipe, 0.7, 0) == 0.1 * factor("cosine", 0.1, 0.7)


def test_the_average_of_weights_that_stand_still_is_those_weights():
    layer = torch.nn.BatchNorm1d(3)
    average = Average(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    for step in range(1, 200):
        average.update(step)
    assert np.allclose(average.module.weight.detach(), 2.0)


def test_the_mean_of_epochs_counts_every_epoch_the_same():
    layer, mean = torch.nn.Linear(2, 1), EpochMean()
    for value in (1.0, 2.0, 6.0):
        with torch.no_grad():
            layer.weight.fill_(value)
        mean.take(layer)
    assert torch.allclose(mean.weights["weight"], torch.tensor(3.0))
    assert torch.equal(layer.weight, torch.full((1, 2), 6.0))


def test_norms_learn_the_mean_and_deviation_of_what_they_see_and_dropout_is_not_in_it():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4, momentum=0.3))
    features = 5 + 2 * torch.randn(3000, 3)
    refresh(network, features)
    with torch.no_grad():
        seen = network[1](features)
    assert torch.allclose(network[2].running_mean, seen.mean(0), atol=1e-4)
    assert torch.allclose(network[2].running_var, seen.var(0), rtol=0.01)
    assert network[2].momentum == 0.3
    assert not any(layer.training for layer in network.modules())


def test_norms_keep_what_they_know_where_there_is_nothing_to_learn_from():
    norm = torch.nn.BatchNorm1d(2)
    before = {name: value.clone() for name, value in tensors(norm).items()}
    refresh(norm, torch.rand(1, 2))
    assert all(torch.equal(before[name], value) for name, value in tensors(norm).items())


def test_a_plan_without_a_limit_is_kept():
    plan = Plan(10, 0.0)
    for _ in range(10):
        plan.step()
    assert plan.over
    assert plan.note(5) == ""


def test_a_plan_shortens_to_the_speed_that_it_sees(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("modelmill.train.plan.time.monotonic", lambda: now[0])
    plan = Plan(1000, 10.0)
    while not plan.over:
        now[0] += 0.1
        plan.step()
    assert now[0] == pytest.approx(9.5, abs=0.3)
    assert plan.note(10) == f"the schedule was shortened from 100 to {plan.total / 10:.1f} epochs to end within 10 s"
