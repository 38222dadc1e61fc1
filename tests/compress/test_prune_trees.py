"""Trees that are cut out of forests and of boosted ensembles."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from sklearn.ensemble import RandomForestClassifier

from modelmill.compress import chain
from modelmill.compress.prune.ensemble import ensemble
from modelmill.compress.prune.pursuit import chosen, crossed
from modelmill.compress.prune.trees import Trees
from modelmill.errors import ModelError
from modelmill.fragment import ML
from modelmill.graph.export import export
from modelmill.method import decode
from modelmill.model import Body, Model, Part
from modelmill.recipe.grow import train
from modelmill.recipe.look import look
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.spec import read

CASES = [
    ("breast_cancer", {"method": "forest", "trees": 40}),
    ("digits", {"method": "forest", "trees": 30, "depth": 8}),
    ("wine", {"method": "boosting", "iterations": 20}),
    ("diabetes", {"method": "forest", "trees": 30, "depth": 5}),
    ("diabetes", {"method": "boosting", "iterations": 30, "learning_rate": 0.1}),
]


def trained(name, arch):
    """A fitted ensemble, its data and its task."""
    metric = "r2" if name == "diabetes" else "accuracy"
    spec = {"data": {"method": "builtin", "name": name}, "goal": {"maximize": metric, "budget": "1 trials"}}
    job = look(read({**spec, "arch": arch, "search": {"folds": 1}})).job
    steps = train(job, {"settings": {}, "seed": 0}, job.splits, 0.0)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, job.splits, job.task


def cut(model, data, task, **settings):
    return list(Trees(**settings)(model, data, task, lambda one: 0.0, 0))[-1].result.body.value


def said(graph, data):
    answers = Session(graph).run(from_dataset(data))
    return answers["probabilities"] if "probabilities" in answers else answers["value"]


@pytest.mark.parametrize(("name", "arch"), CASES)
def test_an_ensemble_with_all_of_its_trees_says_what_it_said(name, arch):
    model, data, task = trained(name, arch)
    whole = said(export(model, task), data.test)
    assert np.allclose(said(cut(model, data, task, ratio=0.0), data.test), whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "arch"), CASES)
def test_half_of_the_trees_say_nearly_the_same_in_half_of_the_bytes(name, arch):
    model, data, task = trained(name, arch)
    graph = export(model, task)
    small = cut(model, data, task, ratio=0.5)
    assert ensemble(small).trees <= round(ensemble(graph).trees / 2)
    assert len(small) < 0.65 * len(graph)
    before, after = said(graph, data.test), said(small, data.test)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.97
    if before.ndim == 2:
        assert np.allclose(after.sum(axis=1), 1, atol=1e-5)
        assert (before.argmax(1) == after.argmax(1)).mean() > 0.94


def test_a_finished_graph_is_cut_as_its_estimator_is():
    model, data, task = trained("wine", {"method": "boosting", "iterations": 10})
    step = decode("compress", {"method": "prune.trees", "ratio": 0.7})
    first = list(chain.run([step], model, data, task, lambda one: 0.0, 0))[-1].result
    finished = model.with_body(export(model, task), "graph", "")
    second = list(chain.run([step], finished, data, task, lambda one: 0.0, 0))[-1].result
    assert first.body.value == second.body.value


def test_fitted_weights_beat_those_that_trees_had():
    model, data, task = trained("diabetes", {"method": "boosting", "iterations": 60, "learning_rate": 0.05})
    whole = said(export(model, task), data.test)
    fitted = said(cut(model, data, task, ratio=0.9), data.test)
    found = ensemble(export(model, task))
    found.cut(np.arange(6), np.ones(6))
    first = said(found.model.SerializeToString(), data.test)
    assert np.square(fitted - whole).mean() < 0.3 * np.square(first - whole).mean()


def test_parts_that_are_multiples_of_one_another_are_one_part():
    parts = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 0.0, 5.0]])
    places, weights = chosen(parts, 2)
    assert len(places) == 2
    assert np.allclose(weights @ parts[places], parts.sum(axis=0))


def test_crossed_rows_hold_values_of_their_own_columns_alone():
    _, data, _ = trained("wine", {"method": "boosting", "iterations": 2})
    found = crossed(data.train, 0.3, seed=1)
    changed = [found.columns[name] != column for name, column in data.train.columns.items()]
    assert 0.2 < np.mean(changed) < 0.35
    assert all(set(found.columns[name]) <= set(column) for name, column in data.train.columns.items())


def test_older_operators_for_trees_are_refused_by_name_before_any_work():
    from skl2onnx import to_onnx

    model, data, task = trained("wine", {"method": "forest", "trees": 3})
    rows = np.stack(list(data.train.columns.values()), axis=1)
    fitted = RandomForestClassifier(3, random_state=0).fit(rows, data.train.target.astype(str))
    older = to_onnx(fitted, rows[:1].astype(np.float32), options={"zipmap": False}, target_opset={"": 18, ML: 3})
    assert "TreeEnsembleClassifier" in {node.op_type for node in older.graph.node}
    outside = Model((Part(Body("graph", older.SerializeToString())),), model.signature)
    with pytest.raises(ModelError, match="an operator TreeEnsembleClassifier, which is not taken apart"):
        next(Trees()(outside, data, task, lambda one: 0.0, 0))


def test_a_graph_without_trees_stays_as_it_is():
    model, data, task = trained("wine", {"method": "linear"})
    graph = export(model, task)
    last = list(Trees()(model, data, task, lambda one: 0.0, 0))[-1]
    assert last.result.body.value == graph
    assert "no trees" in last.note
    onnx.checker.check_model(graph)
