from __future__ import annotations

import math

import pytest
import torch

from modelmill.errors import OutOfBounds, SpecError
from modelmill.task.classify import UNSEEN, Classify
from modelmill.train.recipe import Recipe
from modelmill.train.trainers.adam import Adam
from modelmill.train.training import Training

RAW = torch.tensor([[2.0, 0.0, -1.0], [0.3, 0.1, 0.2], [-4.0, 1.0, 5.0]])
TRUE = torch.tensor([0, 2, 1])


def loss(focal, smoothing=0.0, weights=None, raw=RAW, encoded=TRUE):
    return Classify().loss(raw, encoded, weights, smoothing, focal)


def test_a_row_counts_by_what_it_lacks_to_certainty():
    raw, true = torch.tensor([[math.log(4.0), 0.0]]), torch.tensor([0])  # p = 0.8 and 0.2
    assert float(loss(2.0, raw=raw, encoded=true)) == pytest.approx(-(0.2**2) * math.log(0.8), rel=1e-5)
    assert float(loss(2.0, raw=raw, encoded=1 - true)) == pytest.approx(-(0.8**2) * math.log(0.2), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_focus_it_is_cross_entropy(smoothing):
    weights = torch.tensor([1.0, 2.0, 0.5])
    plain = loss(0.0, smoothing, weights)
    assert float(loss(1e-9, smoothing, weights)) == pytest.approx(float(plain), rel=1e-6)


def test_smoothed_labels_count_every_class_by_its_share():
    p = RAW.softmax(1)
    shares = torch.full((3, 3), 0.1 / 3) + 0.9 * torch.eye(3)[TRUE]
    wanted = -(shares * (1 - p) ** 2 * p.log()).sum(1).mean()
    assert float(loss(2.0, 0.1)) == pytest.approx(float(wanted), rel=1e-5)
    assert float(loss(2.0, encoded=shares)) == pytest.approx(float(wanted), rel=1e-5)


def test_weights_count_rows_and_unseen_labels_do_not():
    weights = torch.tensor([1.0, 0.0, 3.0])
    each = [float(loss(1.5, raw=RAW[i : i + 1], encoded=TRUE[i : i + 1])) for i in range(3)]
    assert float(loss(1.5, weights=weights)) == pytest.approx((each[0] + 3 * each[2]) / 4, rel=1e-5)
    unseen = torch.tensor([0, UNSEEN, 1])
    assert float(loss(1.5, encoded=unseen)) == pytest.approx((each[0] + each[2]) / 2, rel=1e-5)


@pytest.mark.parametrize("focal", [0.5, 1.0, 2.0])
def test_certain_answers_have_a_slope_that_is_a_number(focal):
    raw = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss(focal, raw=raw, encoded=torch.tensor([0, 0])).backward()
    assert torch.isfinite(raw.grad).all()
    assert float(raw.grad[1, 0]) < -0.1  # the wrong one is still taught


def test_a_network_learns_with_focus_weights_and_smoothing(make, judge):
    model, data, task = make("table", {"method": "mlp", "width": 8, "depth": 1})
    trainer = Adam(epochs=20, focal=2.0, smoothing=0.05, class_weights="balanced")
    final = list(trainer(model, data, task, judge, 0))[-1]
    assert final.values["valid_accuracy"] > 0.85


def test_numbers_have_no_focus(make):
    model, data, task = make("regress", {"method": "mlp", "width": 4, "depth": 1})
    with pytest.raises(SpecError, match=r"train\.focal: there are no classes"):
        Training(model, data, task, Recipe(focal=2.0), 0)


def test_a_focus_below_zero_is_refused():
    with pytest.raises(OutOfBounds, match=r"adam\.focal = -1"):
        Adam(focal=-1)
