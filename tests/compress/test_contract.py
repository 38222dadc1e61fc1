"""What every compressor promises, checked on each one that is found."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from modelmill.compress import chain
from modelmill.dataset import Splits
from modelmill.graph.digest import digest
from modelmill.graph.export import export
from modelmill.method import catalogue, decode, find, name_of, names
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam
from modelmill.train.trainers.estimator import Estimator

ALL = names("compress")
ITSELF = "itself@1"
ARCHS = {"network": {"method": "mlp", "width": 16, "depth": 1}, "estimator": {"method": "tree", "depth": 3}}


NEEDED = {"distill.merge": {"model": ITSELF}}
"""Settings without a default."""


def quick(name):
    cls = find("compress", name)
    return cls(**NEEDED.get(name, {}), **({"epochs": 2} if hasattr(cls, "epochs") else {}))


def run(step, model, data, task, judge):
    return chain.Given(data, task, judge, 0, {ITSELF: model}).run(step, model)


def chained(name, model, data, task, judge, seed=0):
    return list(chain.run([quick(name)], model, data, task, judge, seed, {ITSELF: model}))[-1].result


def timed(make):
    """Data whose rows are in the order of time: some steps are for series alone."""

    def made(kind, arch):
        model, data, task = make(kind, arch)
        parts = (replace(part, times=np.arange(part.rows)) for part in (data.train, data.valid, data.test))
        return model, Splits(*parts, data.digest), task

    return made


def trained(make, judge, kind, data_kind="table"):
    model, data, task = timed(make)(data_kind, ARCHS[kind])
    trainer = Adam(epochs=20, learning_rate=0.02) if kind == "network" else Estimator()
    return list(trainer(model, data, task, judge, 0))[-1].result, data, task


def taken(make, judge, step):
    """A trained model of a kind that the step takes."""
    kind = "network" if "network" in step.takes else "graph"
    model, data, task = trained(make, judge, "network")
    if kind == "graph":
        model = model.with_body(export(model, task), "graph", "")
    return model, data, task


def content(model):
    body = model.body.value
    return body if isinstance(body, bytes) else {name: value.clone() for name, value in body.state_dict().items()}


def equal(first, second):
    if isinstance(first, bytes):
        return first == second
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ALL)
def test_the_model_that_goes_in_is_left_as_found(make, judge, name):
    step = quick(name)
    model, data, task = taken(make, judge, step)
    before, history, body = copy.deepcopy(content(model)), model.history, model.body.value
    list(run(step, model, data, task, judge))
    assert equal(before, content(model))
    assert model.history == history
    assert model.body.value is body


@pytest.mark.parametrize("name", ALL)
def test_the_signature_is_kept_and_only_the_last_progress_has_a_result(make, judge, name):
    step = quick(name)
    model, data, task = taken(make, judge, step)
    *others, last = run(step, model, data, task, judge)
    assert all(progress.result is None for progress in others)
    assert last.result.signature == model.signature
    assert last.result.body.kind == (step.gives or model.body.kind)


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_digest_and_a_graph_that_answers(make, judge, name):
    step = quick(name)
    model, data, task = taken(make, judge, step)
    first, second = (chained(name, model, data, task, judge, 5) for _ in range(2))
    assert digest(first.body.value) == digest(second.body.value)
    answers = Session(first.body.value).run(from_dataset(data.test))
    assert set(answers) == {"label", "probabilities"}
    assert (answers["label"] == data.test.target).mean() > 0.7


@pytest.mark.parametrize("name", ALL)
def test_it_reads_back_from_its_table_and_says_what_it_is(name):
    cls = find("compress", name)
    assert decode("compress", quick(name).as_table()) == quick(name)
    assert name_of(cls) == name
    assert cls.takes <= {"network", "estimator", "graph"}
    entry = next(entry for entry in catalogue("compress") if entry.name == name)
    assert entry.doc.endswith(".")
    assert all(setting.doc for setting in entry.settings)


@pytest.mark.parametrize("name", [name for name in ALL if "graph" in find("compress", name).takes])
def test_a_graph_of_trees_comes_through(make, judge, name):
    model, data, task = trained(make, judge, "estimator")
    result = chained(name, model, data, task, judge)
    answers = Session(result.body.value).run(from_dataset(data.test))
    assert (answers["label"] == data.test.target).mean() > 0.8


@pytest.mark.parametrize("name", ALL)
def test_a_regression_comes_through(make, judge, name):
    model, data, task = timed(make)("regress", ARCHS["network"])
    model = list(Adam(epochs=20)(model, data, task, judge, 0))[-1].result
    result = chained(name, model, data, task, judge)
    values = Session(result.body.value).run(from_dataset(data.test))["value"]
    assert abs(values.mean() - data.test.target.mean()) < 20
