"""A training that was killed, amid an epoch and without warning, goes on to the bits of one that never was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from modelmill.errors import SourceError, WorkError
from modelmill.train.fit import fit
from modelmill.train.recipe import Recipe
from modelmill.train.resume import resumed
from modelmill.train.trainers.finetune import Finetune
from modelmill.train.training import Training

CNN = {"method": "cnn", "width": 4, "depth": 2, "dropout": 0.2}

RECIPES = {
    "adam": Recipe(
        optimizer="adam", schedule="one_cycle", average=0.95, epochs=6, batch=32, mix=0.2, shift=1, smoothing=0.1
    ),
    "sgd": Recipe(
        optimizer="sgd",
        schedule="plateau",
        learning_rate=0.5,
        warmup=0.0,
        plateau_patience=1,
        epochs=6,
        batch=32,
        smoothing=0.2,
        swa=0.6,
        focal=1.0,
        class_weights="balanced",
        augment=({"method": "geometric", "rotate": 10, "shift": 1}, {"method": "photometric", "noise": 0.2}),
    ),
}

CHILD = """
import importlib.util, pathlib, sys
import msgspec, torch
torch.set_num_threads(1)
loaded = importlib.util.spec_from_file_location("small", sys.argv[1])
small = importlib.util.module_from_spec(loaded)
loaded.loader.exec_module(small)
from modelmill.train.fit import fit
from modelmill.train.recipe import Recipe
recipe = msgspec.json.decode(sys.argv[3], type=Recipe)
model, data, task = small.build("image", msgspec.json.decode(sys.argv[4]))
for progress in fit(model, data, task, recipe, 7, pathlib.Path(sys.argv[2])):
    print(progress.step, flush=True)
    sys.stdin.readline()
"""


def weights(model):
    return {name: value.clone() for name, value in model.body.value.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def equal(first, second):
    return same(weights(first.result), weights(second.result)) and dict(first.values) == dict(second.values)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """For each recipe the checkpoint of a training that was killed in its fifth epoch."""
    small, folder = Path(__file__).parents[1] / "conftest.py", tmp_path_factory.mktemp("killed")
    children = {}
    for name, recipe in RECIPES.items():
        arguments = [small, folder / name, msgspec.json.encode(recipe).decode(), msgspec.json.encode(CNN).decode()]
        command = [sys.executable, "-c", CHILD, *map(str, arguments)]
        children[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for name, child in children.items():
        with child:
            for epoch in range(1, 5):
                assert child.stdout.readline() == f"{epoch}\n"
                child.stdin.write("\n")
                child.stdin.flush()
            child.kill()  # it has just begun the fifth epoch
        assert child.returncode == -9, name
    return {name: folder / name for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_training_goes_on_to_the_same_bits(make, killed, name):
    model, data, task = make("image", CNN)
    whole = list(fit(model, data, task, RECIPES[name], 7))
    resumed = list(fit(model, data, task, RECIPES[name], 7, killed[name]))
    assert resumed[0].step in (5, 6)
    assert equal(whole[-1], resumed[-1])
    assert [dict(step.values) for step in resumed] == [dict(step.values) for step in whole[resumed[0].step - 1 :]]


def dropped_after(epochs, make, tmp_path, recipe):
    model, data, task = make("image", CNN)
    training = Training(model, data, task, recipe, 7)
    for progress in resumed(training, tmp_path / "half"):
        if progress.step == epochs:
            return training
    raise AssertionError("the training was over before it could be dropped")


def test_a_checkpoint_holds_plateaus_means_and_the_best_epoch(make, tmp_path):
    before = dropped_after(5, make, tmp_path, RECIPES["sgd"])
    model, data, task = make("image", CNN)
    after = Training(model, data, task, RECIPES["sgd"], 7)
    next(resumed(after, tmp_path / "half"))
    assert before.plateau.drops > 0
    assert after.plateau.drops >= before.plateau.drops
    assert (before.mean.count, after.mean.count) == (3, 4)
    assert after.rows == 6 * 120


@pytest.mark.parametrize("epochs", [1, 3, 6])
def test_a_training_dropped_between_any_two_epochs_goes_on_to_the_same_bits(make, tmp_path, epochs):
    recipe = RECIPES["sgd"]
    model, data, task = make("image", CNN)
    whole = list(fit(model, data, task, recipe, 7))[-1]
    dropped_after(epochs, make, tmp_path, recipe)
    assert equal(whole, list(fit(model, data, task, recipe, 7, tmp_path / "half"))[-1])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_fine_tuning_goes_on_to_the_same_bits_while_layers_thaw(make, judge, tmp_path, optimizer):
    model, data, task = make("image", CNN)
    start = list(fit(model, data, task, Recipe(epochs=1), 0))[-1].result
    trainer = Finetune(epochs=5, freeze=2, optimizer=optimizer, head="new", pull=0.5)
    whole = list(trainer(start, data, task, judge, 3))
    for progress in trainer(start, data, task, judge, 3, tmp_path / "half"):
        if progress.step == 3:
            break
    resumed = list(trainer(start, data, task, judge, 3, tmp_path / "half"))
    assert resumed[0].step == 4
    assert equal(whole[-1], resumed[-1])


def test_what_a_process_left_that_was_killed_while_writing_is_not_read(make, tmp_path):
    model, data, task = make("image", CNN)
    whole = list(fit(model, data, task, RECIPES["adam"], 7))[-1]
    dropped_after(2, make, tmp_path, RECIPES["adam"])
    (tmp_path / "half.part").write_bytes(b"half of a checkpoint")
    assert equal(whole, list(fit(model, data, task, RECIPES["adam"], 7, tmp_path / "half"))[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["half"]


def test_a_checkpoint_of_other_starting_weights_is_refused(make, tmp_path):
    dropped_after(1, make, tmp_path, RECIPES["adam"])
    model, data, task = make("image", CNN, seed=1)
    with pytest.raises(WorkError, match="belongs to a training with other settings, weights, data or seed"):
        next(fit(model, data, task, RECIPES["adam"], 7, tmp_path / "half"))


def test_a_checkpoint_of_another_architecture_with_the_same_weights_is_refused(make, tmp_path):
    dropped_after(1, make, tmp_path, RECIPES["adam"])
    model, data, task = make("image", {**CNN, "dropout": 0.3})
    with pytest.raises(WorkError, match="belongs to a training with other settings, weights, data or seed"):
        next(fit(model, data, task, RECIPES["adam"], 7, tmp_path / "half"))


def test_a_checkpoint_that_is_none_is_refused(make, tmp_path):
    (tmp_path / "half").write_bytes(b"not a checkpoint at all")
    model, data, task = make("image", CNN)
    with pytest.raises(SourceError, match="is no checkpoint"):
        next(fit(model, data, task, RECIPES["adam"], 7, tmp_path / "half"))
