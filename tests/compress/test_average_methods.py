"""Soups of weights and answers that are averaged over a series, against hand computations."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from modelmill.compress.average.mixing import greedy, mean, settling
from modelmill.compress.average.series import kernel
from modelmill.compress.average.smooth import Smooth
from modelmill.compress.average.soup import Soup
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.graph.export import export
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.answer import forward
from modelmill.train.rows import rows
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 16, "depth": 1}


def trained(make, judge, kind, arch, epochs=6):
    model, data, task = make(kind, arch)
    return list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result, data, task


def series(data, order=None):
    parts = [data.train, data.valid, data.test]
    return Splits(*(replace(part, times=np.arange(part.rows) if order is None else order(part)) for part in parts))


def valued(model, value):
    """The model with every weight of that value."""
    module = copy.deepcopy(model.body.value)
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(value)
    return model.with_body(module, "network", "")


def weight(module):
    return float(module[0].weight.detach()[0, 0])


def test_the_average_is_that_of_every_weight(make):
    model, _, _ = make("table", MLP)
    average = mean([valued(model, value).body.value for value in (1.0, 2.0, 6.0)], lambda module: None)
    assert all((parameter == 3.0).all() for parameter in average.parameters())


def test_a_soup_takes_in_what_does_not_make_it_worse(make):
    model, _, _ = make("table", MLP)
    found = [valued(model, value) for value in (0.0, 4.0, 1.0)]

    def judge(one):  # the best is 2
        return -abs(weight(one.body.value) - 2)

    soup = greedy(found, judge, lambda module: None)
    # 1 is the best alone; then 0 makes 0.5, worse; 4 makes 2.5, better
    assert (soup.count, weight(soup.module), soup.untouched) == (2, 2.5, False)
    assert "-0.5000 on validation rows, the best alone -1.0000" in soup.told


def test_a_soup_of_the_model_alone_is_the_model(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    first = []

    def prefer(one):
        first.append(one)
        return float(one is model) - len(first) * 1e-6

    *_, last = Soup(count=2, epochs=1)(model, data, task, prefer, 0)
    assert last.result is model
    assert last.values["averaged"] == 1


def test_without_rows_to_judge_by_all_are_averaged_and_batch_norms_settle(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    *_, last = Soup(count=3, epochs=2)(model, data, task, lambda one: math.nan, 0)
    assert "the average of 4 of 4" in last.note
    network = last.result.body.value
    features = rows(last.result, data.train, task).features
    with torch.no_grad():
        reached = network[0](features)
    assert torch.allclose(network[1].running_mean, reached.mean(0), atol=1e-5)


def test_trainings_of_a_soup_differ_and_values_stay_in_their_unit(make, judge):
    model, data, task = trained(make, judge, "regress", MLP, epochs=20)
    *steps, last = Soup(count=2, epochs=2)(model, data, task, lambda one: math.nan, 0)
    assert [step.step for step in steps] == [0, 1, 2, 3, 4]
    told = forward(last.result.body.value, rows(last.result, data.test, task).features).numpy()
    assert abs(told.mean() - data.test.target.mean()) < 5


def test_settling_changes_nothing_but_statistics(make):
    model, data, task = make("table", MLP)
    before = {name: value.clone() for name, value in model.body.value.named_parameters()}
    settling(model, data.train, task)(model.body.value)
    assert all(torch.equal(before[name], value) for name, value in model.body.value.named_parameters())


def by_hand(rough, weights):
    """Each row as the weighted mean of those up to it, the newest with the last weight."""
    done = np.zeros_like(rough)
    for row in range(len(rough)):
        ages = np.arange(min(row + 1, len(weights)))
        shares = weights[::-1][ages]
        done[row] = (shares.reshape(-1, *[1] * (rough.ndim - 1)) * rough[row - ages]).sum(axis=0) / shares.sum()
    return done


@pytest.mark.parametrize("by", ["exponential", "moving"])
@pytest.mark.parametrize("kind", ["table", "regress"])
def test_answers_are_averages_over_the_rows_before(make, judge, by, kind):
    model, data, task = trained(make, judge, kind, MLP)
    model = model.with_body(export(model, task), "graph", "")
    *_, last = Smooth(by=by, window=4)(model, series(data), task, judge, 0)
    columns, output = from_dataset(data.test), "value" if kind == "regress" else "probabilities"
    rough, smooth = (Session(one.body.value).run(columns) for one in (model, last.result))
    wanted = by_hand(rough[output].astype(np.float64), kernel(by, 4).astype(np.float64))
    assert np.allclose(smooth[output], wanted, rtol=1e-4)
    if kind == "table":
        known = np.array(model.signature.classes, object)
        assert smooth["label"].tolist() == known[smooth["probabilities"].argmax(axis=1)].tolist()
    alone = Session(last.result.body.value).run({name: column[:1] for name, column in columns.items()})
    assert np.allclose(alone[output], rough[output][:1], rtol=1e-5)


def test_an_exponential_average_is_the_recursion_once_it_has_begun():
    weights = kernel("exponential", 3).astype(np.float64)  # a step of one half
    rough = np.random.default_rng(0).normal(size=200)
    value = rough[0]
    for row in rough[1:]:
        value = 0.5 * row + 0.5 * value
    assert by_hand(rough, weights)[-1] == pytest.approx(value, abs=5e-3)


def test_the_graph_has_one_label_and_no_constant_that_nothing_reads(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    model = model.with_body(export(model, task), "graph", "")
    first, last = Smooth()(model, series(data), task, judge, 0)
    graph = onnx.load_from_string(last.result.body.value).graph
    assert [node.op_type for node in graph.node].count("ArgMax") == 1
    read = {name for node in graph.node for name in node.input}
    assert {constant.name for constant in graph.initializer} <= read
    assert "over the last" in first.note
    assert "accuracy on validation rows" in last.note


def test_a_noisy_series_is_answered_better(make, judge):
    model, data, task = trained(make, judge, "table", MLP, epochs=20)
    order = np.argsort(data.test.target, kind="stable")  # long runs of one class
    noisy = {**data.test.columns, "size": data.test.columns["size"] + np.float32(1.0) * np.sin(np.arange(40) * 2.4)}
    rows = replace(data.test, columns={k: v.astype(data.test.columns[k].dtype) for k, v in noisy.items()}).take(order)
    model = model.with_body(export(model, task), "graph", "")
    *_, last = Smooth(by="moving", window=5)(model, series(data), task, judge, 0)
    before, after = (
        (Session(one.body.value).run(from_dataset(rows))["label"] == rows.target).mean() for one in (model, last.result)
    )
    assert after > before


def test_a_window_of_one_row_is_off(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    (last,) = Smooth(window=1)(model, series(data), task, judge, 0)
    assert last.result is model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data, "the data have no time column"),
        (lambda data: series(data, lambda part: -np.arange(part.rows)), "not in the order of time"),
        (
            lambda data: replace(series(data), train=replace(series(data).train, groups=np.zeros(data.train.rows))),
            "several series",
        ),
    ],
)
def test_data_that_are_no_series_are_refused(make, judge, change, words):
    model, data, task = make("table", MLP)
    with pytest.raises(ModelError, match=words):
        next(iter(Smooth()(model, change(data), task, judge, 0)))
