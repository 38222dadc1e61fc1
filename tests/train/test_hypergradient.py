"""Derivatives of a loss with respect to the settings of its training, against trainings at neighbouring settings."""

from __future__ import annotations

import msgspec
import pytest
import torch

from modelmill.recipe.grow import picked_spec, untrained
from modelmill.recipe.look import look
from modelmill.spec import read
from modelmill.train.hypergradient import differentiated, third
from modelmill.train.recipe import Recipe
from modelmill.train.rows import rows, standardized
from modelmill.train.training import Training

PLAIN = Recipe(
    optimizer="sgd",
    learning_rate=0.05,
    momentum=0.9,
    epochs=150,
    batch=4096,
    schedule="constant",
    average=0.0,
    clip=0.0,
    weight_decay=0.05,
    smoothing=0.05,
)


@pytest.fixture(scope="module")
def started():
    spec = {"data": {"method": "builtin", "name": "breast_cancer"}, "arch": {"method": "mlp", "depth": 0}}
    job = look(read(spec)).job
    return job, untrained(job, picked_spec(job, {}), job.splits.train, 0)


def away(started, recipe):
    """The loss on the third split after a training."""
    job, model = started
    split = third(job.splits, 0)
    training = Training(model, split.data, job.task, recipe, 0)
    for _ in training.run():
        pass
    found = standardized(rows(model, split.rows, job.task), training.unit)
    with torch.no_grad():
        return float(job.task.loss(training.module.eval()(found.features), found.encoded, found.weights, 0.0))


def slopes(started, recipe):
    job, model = started
    *_, last = differentiated(model, third(job.splits, 0), job.task, recipe, 0)
    return {name.removeprefix("gradient."): value for name, value in last.values.items() if "gradient" in name}


def difference(started, recipe, name, share=0.1):
    value = getattr(recipe, name)
    up, down = (msgspec.structs.replace(recipe, **{name: value * (1 + way * share)}) for way in (1, -1))
    return (away(started, up) - away(started, down)) / (2 * share * value)


@pytest.mark.parametrize("focal", [0.0, 2.0])
@pytest.mark.parametrize("name", ["weight_decay", "smoothing"])
def test_implicit_derivatives_are_those_of_trainings_that_have_come_to_rest(started, name, focal):
    recipe = msgspec.structs.replace(PLAIN, focal=focal)
    assert slopes(started, recipe)[name] == pytest.approx(difference(started, recipe, name), rel=0.15)


@pytest.mark.parametrize(("rate", "way"), [(0.0003, -1), (0.003, -1)])
def test_a_step_size_that_is_too_small_wants_to_grow(started, rate, way):
    recipe = msgspec.structs.replace(PLAIN, learning_rate=rate, epochs=30, batch=64, schedule="cosine")
    assert slopes(started, recipe)["learning_rate"] * way > 0
    assert difference(started, recipe, "learning_rate") * way > 0


def test_the_third_split_is_neither_learned_from_nor_judged_on(started):
    job, _ = started
    split = third(job.splits, 0)
    assert split.rows.rows + split.data.train.rows == job.splits.train.rows
    assert split.rows.rows == pytest.approx(0.2 * job.splits.train.rows, rel=0.2)
    assert split.data.valid.digest == job.splits.valid.digest
