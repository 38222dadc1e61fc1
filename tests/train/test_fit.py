from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from modelmill.dataset import Splits
from modelmill.errors import OutOfBounds, TrialError, WorkError
from modelmill.graph.export import export
from modelmill.method import decode
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.fit import fit
from modelmill.train.recipe import Recipe
from modelmill.train.trainers.adam import Adam
from modelmill.train.trainers.sgd import Sgd
from modelmill.train.training import Training

CNN = {"method": "cnn", "width": 4, "depth": 2, "dropout": 0.2}
MLP = {"method": "mlp", "width": 8, "depth": 1}
QUICK = Recipe(epochs=4, batch=32)


def weights(model):
    return {name: value.clone() for name, value in model.body.value.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def last(progress):
    return list(progress)[-1]


@pytest.mark.parametrize("trainer", [Adam(epochs=8), Sgd(epochs=8)])
def test_training_finds_what_separates_the_classes(make, judge, trainer):
    model, data, task = make("image", CNN)
    steps = list(trainer(model, data, task, judge, 0))
    assert steps[-1].values["valid_accuracy"] == 1.0
    assert [step.result is None for step in steps] == [True] * (len(steps) - 1) + [False]
    assert steps[0].values["train_loss"] > steps[-2].values["train_loss"]


def test_a_table_with_text_and_gaps_is_learned(make, judge):
    model, data, task = make("table", MLP)
    assert last(Adam(epochs=20)(model, data, task, judge, 0)).values["valid_accuracy"] > 0.85


def test_the_input_model_and_the_global_generator_are_left_as_found(make, judge):
    model, data, task = make("image", CNN)
    before, state = weights(model), torch.random.get_rng_state()
    for _ in Adam(epochs=2)(model, data, task, judge, 0):
        assert torch.equal(torch.random.get_rng_state(), state)
    assert same(before, weights(model))
    assert model.history == ()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make, judge):
    model, data, task = make("image", CNN)
    trainer = Adam(epochs=2, mix=0.3, shift=1, flip=True, smoothing=0.1)
    first, second, other = (last(trainer(model, data, task, judge, seed)).result for seed in (3, 3, 4))
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(other))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_training_that_was_dropped_goes_on_to_the_same_bits(make, tmp_path, optimizer):
    model, data, task = make("image", CNN)
    recipe = Recipe(optimizer=optimizer, epochs=4, batch=32, mix=0.2, shift=1)
    whole = last(fit(model, data, task, recipe, 7))
    dropped = fit(model, data, task, recipe, 7, tmp_path / "half")
    next(dropped), next(dropped)
    dropped.close()
    resumed = list(fit(model, data, task, recipe, 7, tmp_path / "half"))
    assert [step.step for step in resumed] == [3, 4, 4]
    assert same(weights(whole.result), weights(resumed[-1].result))
    assert dict(whole.values) == dict(resumed[-1].values)


KILLED = """
import importlib.util, os, pathlib, signal, sys, torch
torch.set_num_threads(1)
loaded = importlib.util.spec_from_file_location("small", sys.argv[1])
small = importlib.util.module_from_spec(loaded)
loaded.loader.exec_module(small)
from modelmill.train.fit import fit
from modelmill.train.recipe import Recipe
model, data, task = small.build("image", {"method": "cnn", "width": 4, "depth": 2, "dropout": 0.2})
for progress in fit(model, data, task, Recipe(epochs=4, batch=32), 7, pathlib.Path(sys.argv[2])):
    if progress.step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_training_whose_process_was_killed_goes_on_to_the_same_bits(make, tmp_path):
    small, path = Path(__file__).parents[1] / "conftest.py", tmp_path / "checkpoint"
    killed = subprocess.run([sys.executable, "-c", KILLED, small, path], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    model, data, task = make("image", CNN)
    whole = last(fit(model, data, task, QUICK, 7)).result
    resumed = list(fit(model, data, task, QUICK, 7, path))
    assert resumed[0].step == 3
    assert same(weights(whole), weights(resumed[-1].result))


def test_a_checkpoint_of_another_training_is_refused(make, tmp_path):
    model, data, task = make("table", MLP)
    list(fit(model, data, task, QUICK, 0, tmp_path / "point"))
    with pytest.raises(WorkError, match="belongs to a training with other settings"):
        next(fit(model, data, task, QUICK, 1, tmp_path / "point"))


def test_values_come_out_in_the_unit_of_the_target(make, judge):
    model, data, task = make("regress", MLP)
    result = last(Adam(epochs=30)(model, data, task, judge, 0)).result
    values = Session(export(result, task)).run(from_dataset(data.valid))["value"]
    assert abs(values.mean() - data.valid.target.mean()) < 5
    assert np.corrcoef(values, data.valid.target)[0, 1] > 0.9


def test_training_goes_on_from_trained_weights(make, judge):
    model, data, task = make("regress", MLP)
    first = last(Adam(epochs=30)(model, data, task, judge, 0))
    again = next(Adam(epochs=30, learning_rate=1e-6)(first.result, data, task, judge, 0))
    assert again.values["valid_loss"] == pytest.approx(first.values["valid_loss"], rel=0.05)


def test_training_stops_when_no_epoch_is_better(make, judge):
    model, data, task = make("table", MLP)
    trainer = Adam(epochs=200, patience=3, learning_rate=0.1, schedule="constant", average=0)
    final = last(trainer(model, data, task, judge, 0))
    assert final.step < 200
    assert final.values["best_epoch"] == final.step - 3
    assert "no better one in the last 3" in final.note


def test_without_validation_rows_all_epochs_are_trained(make, judge):
    model, data, task = make("table", MLP)
    refit = Splits(data.train, data.valid.take(np.arange(0)), data.test)
    final = last(Adam(epochs=5, patience=1)(model, refit, task, judge, 0))
    assert final.step == 5
    assert set(final.values) == {"train_loss", "train_accuracy", "learning_rate", "rows"}


def test_the_kept_weights_are_those_of_the_best_epoch(make):
    model, data, task = make("table", MLP)
    steps = list(fit(model, data, task, Recipe(epochs=12, learning_rate=0.05), 0))
    ranks = [(step.values["valid_accuracy"], -step.values["valid_loss"]) for step in steps]
    assert ranks[-1] == max(ranks)
    assert steps[-1].values["best_epoch"] == 1 + ranks.index(max(ranks))


def test_a_training_ends_within_its_seconds_and_says_so(make, judge, monkeypatch):
    clock = iter(np.arange(0, 1e6, 0.01))  # every look at the clock is 10 ms later
    monkeypatch.setattr("modelmill.train.plan.time.monotonic", lambda: next(clock))
    model, data, task = make("table", MLP)
    final = last(Adam(epochs=1000, seconds=3)(model, data, task, judge, 0))
    assert final.result is not None
    assert 1 < final.step < 1000
    assert "shortened from 1000 to" in final.note
    assert next(clock) < 4


def test_weights_of_rows_are_heeded(make, judge):
    model, data, task = make("table", MLP)
    only = (data.train.target == "big").astype(np.float32)
    one_sided = Splits(_weighted(data.train, only), data.valid, data.test)
    result = last(Adam(epochs=10, patience=0, average=0)(model, one_sided, task, judge, 0)).result
    labels = Session(export(result, task)).run(from_dataset(data.test))["label"]
    assert (labels == "big").mean() > 0.9


def _weighted(dataset, values):
    from dataclasses import replace

    return replace(dataset, weights=values)


def test_balanced_weights_count_every_class_the_same():
    from modelmill.train.rows import weights

    found = weights(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 1]), True)
    assert found[:3].sum() == pytest.approx(found[3])
    assert found.mean() == pytest.approx(1)


def test_a_loss_that_is_no_number_ends_the_training(make, judge):
    model, data, task = make("regress", MLP)
    with pytest.raises(TrialError, match="Lower the learning rate"):
        list(Training(model, data, task, Recipe(optimizer="sgd", learning_rate=1e30, clip=0.0, epochs=3), 0).run())


def test_a_setting_out_of_bounds_is_refused():
    with pytest.raises(OutOfBounds, match=r"adam\.learning_rate"):
        decode("train", {"method": "adam", "learning_rate": -1})
