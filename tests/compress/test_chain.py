from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from modelmill.compress import chain, parity
from modelmill.compress.convert.onnx import Onnx
from modelmill.compress.prune.magnitude import Magnitude
from modelmill.compress.quantize.static import Static
from modelmill.errors import ModelError
from modelmill.method import find
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 16, "depth": 1}


def test_no_steps_give_the_model_as_a_graph(make, judge):
    model, data, task = make("image", MLP)
    steps = list(chain.run([], model, data, task, judge, 0))
    assert [step.result is None for step in steps] == [True, False]
    assert steps[-1].result.body.kind == "graph"
    assert steps[-1].values["size_bytes"] == len(steps[-1].result.body.value)


def test_steps_run_in_order_and_are_remembered(make, judge):
    model, data, task = make("image", MLP)
    last = list(chain.run([Magnitude(epochs=1), Static()], model, data, task, judge, 0))[-1]
    kinds = [line.partition(":")[0] for line in last.result.history]
    assert kinds == ["prune.magnitude", "retrain.adam", "convert.onnx", "quantize.static"]


def test_a_step_for_networks_after_one_for_graphs_is_refused(make, judge):
    model, data, task = make("image", MLP)
    with pytest.raises(ModelError, match="takes a network, and a graph came"):
        list(chain.run([Static(), Magnitude()], model, data, task, judge, 0))


def test_a_step_for_networks_names_steps_that_take_the_estimator_that_came(make, judge):
    model, data, task = make("table", {"method": "forest", "trees": 3})
    model = model.with_body(model.body.value, "estimator", "")
    with pytest.raises(ModelError, match="takes a network, and an estimator came") as caught:
        list(chain.run([Magnitude()], model, data, task, judge, 0))
    named = [word.strip(",.") for word in caught.value.hint.split() if "." in word.strip(",.")]
    assert len(named) == 4
    assert all("estimator" in find("compress", name).takes for name in named)


def test_a_graph_that_answers_otherwise_than_its_body_is_refused(make, judge):
    model, data, task = make("table", MLP)
    graph = list(Onnx()(model, data, task, judge, 0))[-1].result.body.value
    other = list(Adam(epochs=2)(model, data, task, judge, 0))[-1].result
    assert parity.check(model, graph, data.train, 1e-4) < 1e-5
    with pytest.raises(ModelError, match="the graph answers otherwise than the network"):
        parity.check(other, graph, data.train, 1e-4)


def test_labels_that_differ_count_unless_they_tie():
    sure = {"probabilities": np.array([[0.9, 0.1]]), "label": np.array([0])}
    tied = {"probabilities": np.array([[0.5, 0.5]]), "label": np.array([0])}
    assert parity.difference({**sure, "label": np.array([1])}, sure) == float("inf")
    assert parity.difference({**tied, "label": np.array([1])}, tied) == 0.0


def test_a_network_in_training_mode_is_converted_as_it_evaluates(make, judge):
    model, data, task = make("table", {**MLP, "dropout": 0.5})
    model.body.value.train()
    torch.manual_seed(0)
    assert list(Onnx()(model, data, task, judge, 0))[-1].values["difference"] < 1e-5
    assert model.body.value.training


def test_a_graph_is_not_converted_again(make, judge):
    model, data, task = make("table", MLP)
    once = list(Onnx()(model, data, task, judge, 0))[-1].result
    again = list(Onnx()(dataclasses.replace(once), data, task, judge, 0))[-1].result
    assert again.body.value == once.body.value
