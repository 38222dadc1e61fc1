"""What the settings of a training do to it: plateaus, means of epochs, decay, augmentation, and what progress tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelmill.dataset import Splits
from modelmill.errors import SpecError, UnknownName
from modelmill.train.fit import fit
from modelmill.train.recipe import Recipe
from modelmill.train.trainers.adam import Adam
from modelmill.train.trainers.sgd import Sgd
from modelmill.train.training import Training

CNN = {"method": "cnn", "width": 4, "depth": 2}
MLP = {"method": "mlp", "width": 8, "depth": 1}


def weights(model):
    return {name: value.clone() for name, value in model.body.value.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def trained(make, kind, arch, recipe, seed=0):
    model, data, task = make(kind, arch)
    return list(fit(model, data, task, recipe, seed))


def test_the_step_size_falls_when_the_validation_loss_no_longer_does(make):
    recipe = Recipe(epochs=30, learning_rate=0.3, schedule="plateau", plateau_patience=2, plateau_factor=0.5, warmup=0)
    steps = trained(make, "table", MLP, recipe)[:-1]
    losses = [step.values["valid_loss"] for step in steps]
    best, waited, expected = float("inf"), 0, [0.3]
    for loss in losses:
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == 2:
            waited = 0
            expected.append(expected[-1] * 0.5)
        else:
            expected.append(expected[-1])
    assert len(set(expected)) > 2
    # What an epoch tells is the step size after its last step: that of the epoch, before its own loss is known.
    assert [step.values["learning_rate"] for step in steps] == pytest.approx(expected[:-1])


def test_without_validation_rows_a_plateau_is_one_of_the_training_loss(make):
    model, data, task = make("table", MLP)
    refit = Splits(data.train, data.valid.take(np.arange(0)), data.test)
    recipe = Recipe(epochs=40, learning_rate=1.0, schedule="plateau", plateau_patience=1)
    training = Training(model, refit, task, recipe, 0)
    list(training.run())
    assert training.plateau.drops > 0


def test_swa_gives_the_mean_of_the_last_epochs_and_says_so(make):
    model, data, task = make("image", CNN)
    training = Training(model, data, task, Recipe(epochs=8, swa=0.5, swa_rate=0.4, learning_rate=0.01), 0)
    ends, rates = [], []
    for progress in training.run():
        ends.append({name: value.clone() for name, value in training.module.state_dict().items()})
        rates.append(progress.values["learning_rate"])
    final = training.finish("train.adam")
    assert rates[4:] == [pytest.approx(0.004)] * 4
    name = "0.weight"
    wanted = torch.stack([end[name] for end in ends[4:]]).mean(0)
    assert torch.allclose(weights(final.result)[name], wanted, atol=1e-6)
    assert "the mean of the weights after 4 epochs" in final.note
    assert final.values["best_epoch"] == 8


def test_the_norms_of_the_mean_are_measured_anew_and_its_figures_are_its_own(make):
    from modelmill.train.answer import forward

    model, data, task = make("image", CNN)
    training = Training(model, data, task, Recipe(epochs=4, swa=0.5), 0)
    list(training.run())
    final = training.finish("train.adam")
    network = final.result.body.value
    with torch.no_grad():
        seen = network[0](training.train.features)
    assert torch.allclose(network[1].running_mean, seen.mean((0, 2, 3)), atol=1e-4)
    right = forward(network, training.valid.features).argmax(1) == training.valid.encoded
    assert final.values["valid_accuracy"] == pytest.approx(float(right.float().mean()))


def test_swa_needs_all_epochs_and_so_patience_waits(make):
    recipe = Recipe(epochs=12, swa=0.25, patience=1, learning_rate=0.3, schedule="constant", average=0)
    assert trained(make, "table", MLP, recipe)[-1].step == 12


def test_coupled_decay_is_part_of_the_gradient_and_adam_forgets_its_size():
    from modelmill.train.optimizer import optimizer

    ends = {}
    for decoupled in (True, False):
        layer = torch.nn.Linear(2, 2, bias=False)
        torch.nn.init.constant_(layer.weight, 1.0)
        recipe = Recipe(weight_decay=0.5, learning_rate=0.1, decoupled=decoupled)
        steps = optimizer(layer, recipe, None)
        layer.weight.grad = torch.zeros(2, 2)
        steps.step()
        ends[decoupled] = float(layer.weight.detach()[0, 0])
    assert ends[True] == pytest.approx(1 - 0.1 * 0.5)
    assert ends[False] == pytest.approx(1 - 0.1, rel=1e-4)


def test_the_short_settings_are_the_augmentations_of_the_same_name(make):
    short = Recipe(epochs=2, shift=1, flip=True, mix=0.3)
    tables = ({"method": "geometric", "shift": 1, "flip": "horizontal"}, {"method": "mixup", "alpha": 0.3})
    first = trained(make, "image", CNN, short)[-1].result
    second = trained(make, "image", CNN, Recipe(epochs=2, augment=tables))[-1].result
    plain = trained(make, "image", CNN, Recipe(epochs=2))[-1].result
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(plain))


@pytest.mark.parametrize(
    "table",
    [
        {"method": "geometric", "rotate": 10, "scale": 0.1, "crop": 0.1},
        {"method": "photometric", "contrast": 0.3, "noise": 0.1, "blur": 0.5},
        {"method": "colour", "brightness": 0.3},
        {"method": "mixup"},
    ],
)
def test_a_network_learns_from_augmented_rows(make, judge, table):
    model, data, task = make("image", CNN)
    final = list(Sgd(epochs=8, augment=[table])(model, data, task, judge, 0))[-1]
    assert final.values["valid_accuracy"] > 0.9


def test_short_settings_for_images_mean_nothing_for_tables_but_tables_of_them_are_refused(make, judge):
    model, data, task = make("table", MLP)
    assert list(Adam(epochs=1, shift=1, flip=True)(model, data, task, judge, 0))
    with pytest.raises(SpecError, match=r"augment\.geometric: takes image features"):
        list(Adam(epochs=1, augment=[{"method": "geometric", "shift": 1}])(model, data, task, judge, 0))


def test_a_wrong_name_in_an_augmentation_names_the_closest(make, judge):
    model, data, task = make("image", CNN)
    with pytest.raises(UnknownName, match="Did you mean rotate"):
        list(Adam(epochs=1, augment=[{"method": "geometric", "rotat": 1}])(model, data, task, judge, 0))


def test_progress_tells_losses_qualities_the_step_size_and_the_rows_seen(make):
    steps = trained(make, "image", CNN, Recipe(epochs=3, batch=32))
    for step in steps[:-1]:
        assert set(step.values) == {"train_loss", "learning_rate", "rows", "valid_loss", "valid_accuracy"}
    assert [step.values["rows"] for step in steps] == [120, 240, 360, 360]
    assert {"train_accuracy", "valid_accuracy", "best_epoch"} <= set(steps[-1].values)


def test_rows_are_counted_where_a_training_ends_amid_an_epoch(make, monkeypatch):
    clock = iter(np.arange(0, 1e6, 0.01))
    monkeypatch.setattr("modelmill.train.plan.time.monotonic", lambda: next(clock))
    model, data, task = make("table", MLP)
    training = Training(model, data, task, Recipe(epochs=1000, seconds=1), 0)
    list(training.run())
    whole, rest = divmod(training.plan.done, training.steps)
    assert rest
    assert len(data.train.target) * whole < training.rows < len(data.train.target) * (whole + 1)
