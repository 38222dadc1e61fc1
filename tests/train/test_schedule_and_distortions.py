from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelmill.train.average import Average
from modelmill.train.distort import background, flip, generator, mixed, shift
from modelmill.train.plan import Plan
from modelmill.train.schedule import factor


@given(
    schedule=st.sampled_from(["cosine", "one_cycle", "step", "constant"]),
    warmup=st.floats(0, 0.9),
    done=st.floats(0, 1),
)
def test_every_schedule_stays_between_zero_and_its_largest_step(schedule, warmup, done):
    assert 0 <= factor(schedule, warmup, done) <= 1


def test_steps_fall_by_ten_twice():
    assert [round(factor("step", 0, done), 3) for done in (0.1, 0.5, 0.9)] == [1.0, 0.1, 0.01]


def test_a_shifted_image_keeps_its_pixels_and_fills_up_with_background():
    image = torch.zeros(64, 1, 5, 5)
    image[:, :, 2, 2] = 7.0
    moved = shift(image, 1, -1.0, generator(0))
    assert (moved == 7.0).sum(dim=(1, 2, 3)).tolist() == [1] * 64
    places = {tuple(place) for place in torch.nonzero(moved[:, 0] == 7.0)[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    assert set(moved.unique().tolist()) == {-1.0, 0.0, 7.0}


def test_the_background_is_the_value_of_most_corners():
    images = torch.rand(10, 1, 6, 6)
    images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] = 0.25
    assert background(images) == 0.25


def test_flipping_twice_by_the_same_dice_is_no_change():
    images = torch.rand(8, 2, 3, 4)
    assert torch.equal(flip(flip(images, generator(1)), generator(1)), images)


def test_mixing_keeps_the_mean_of_a_batch():
    batch = torch.rand(16, 3)
    blended, order, share = mixed(batch, 0.4, generator(2))
    assert sorted(order.tolist()) == list(range(16))
    assert 0 <= share <= 1
    assert torch.allclose(blended.mean(0), batch.mean(0))


def test_the_average_of_weights_that_stand_still_is_those_weights():
    layer = torch.nn.BatchNorm1d(3)
    average = Average(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    for step in range(1, 200):
        average.update(step)
    assert np.allclose(average.module.weight.detach(), 2.0)


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
