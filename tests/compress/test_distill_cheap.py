"""Students that are trees and linear models, filters before a model, and two models that become one."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import onnx
import pytest
import torch

from modelmill.compress import chain
from modelmill.compress.distill import gate
from modelmill.compress.distill.cascade import cascade
from modelmill.compress.distill.cheap import linear
from modelmill.compress.distill.filter import Filter
from modelmill.compress.distill.gate import early, held
from modelmill.compress.distill.labels import spelled, told
from modelmill.compress.distill.logistic import Logistic
from modelmill.compress.distill.merge import Merge
from modelmill.compress.distill.merging import merged, taught_by
from modelmill.compress.distill.tree import Tree
from modelmill.compress.quantize.codebook import Codebook
from modelmill.compress.quantize.dynamic import Dynamic
from modelmill.compress.quantize.float16 import Float16
from modelmill.compress.quantize.static import Static
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.evaluate.costs.macs import count
from modelmill.graph.export import export
from modelmill.runtime.features import features
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam
from modelmill.train.trainers.estimator import Estimator

MLP = {"method": "mlp", "width": 16, "depth": 1}
CNN = {"method": "cnn", "width": 8, "depth": 1}


def trained(make, judge, kind, arch, epochs=10):
    model, data, task = make(kind, arch)
    trainer = Estimator() if arch["method"] in ("forest", "tree") else Adam(epochs=epochs, learning_rate=0.01)
    return list(trainer(model, data, task, judge, 0))[-1].result, data, task


def as_graph(model, task):
    return model.with_body(export(model, task), "graph", "")


def noisy(data, share=0.3):
    """The same data with labels that are wrong by chance, so that no model can be sure of all."""
    wrong = np.random.default_rng(0).random(data.train.rows) < share
    return Splits(replace(data.train, target=np.where(wrong, 0, data.train.target)), data.valid, data.test, "noisy")


def test_a_leaf_holds_the_mean_of_soft_labels(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    *_, last = Tree(depth=1, min_leaf=1, share=1.0)(model, data, task, judge, 0)
    estimator = last.result.body.value
    said = told(model, data.train)
    leaf = estimator.apply(features(model.part, model.signature, data.train))
    for node in set(leaf.tolist()):
        wanted = said[leaf == node]
        kept = np.where(wanted >= 0.01, wanted, 0)
        wanted = (kept / kept.sum(axis=1, keepdims=True)).mean(axis=0)
        assert np.allclose(estimator.tree_.value[node, 0], wanted, atol=1e-6)


def test_the_logistic_student_has_the_least_loss_on_soft_labels():
    labels = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    inputs = np.array([[-1.0], [0.5], [1.0], [-0.3]])
    estimator = linear(1.0, True, 0)
    rows, classes, shares = spelled(labels, None)
    estimator.fit(inputs[rows], classes, sample_weight=shares)

    def loss(weight, bias):
        second = 1 / (1 + np.exp(-(inputs[:, 0] * weight + bias)))
        told = np.stack([1 - second, second], axis=1)
        return -(labels * np.log(told)).sum() + 0.5 * weight**2

    found = loss(estimator.coef_[0, 0], estimator.intercept_[0])
    grid = [loss(w, b) for w in np.linspace(-3, 3, 121) for b in np.linspace(-2, 2, 81)]
    assert found <= min(grid) + 1e-4


@pytest.mark.parametrize("method", [Tree, Logistic])
@pytest.mark.parametrize(("kind", "arch"), [("image", CNN), ("table", {"method": "forest", "trees": 5})])
def test_a_cheap_student_of_images_and_of_forests_answers_as_a_graph(make, judge, method, kind, arch):
    model, data, task = trained(make, judge, kind, arch)
    result = list(chain.run([method()], model, data, task, judge, 0))[-1].result
    label = Session(result.body.value).run(from_dataset(data.test))["label"]
    assert (label == data.test.target).mean() > 0.8


def test_a_model_of_one_answer_teaches_no_classifier(make, judge):
    model, data, task = make("table", {**MLP, "depth": 0})
    with torch.no_grad():
        model.body.value[0].weight.zero_()
        model.body.value[0].bias.copy_(torch.tensor([20.0, -20.0]))
    with pytest.raises(ModelError, match="the same class"):
        list(Logistic(share=1.0)(model, data, task, judge, 0))


def filtered(make, judge, kind="image", threshold=0.9, arch=CNN):
    """A model, its gate, both joined at a threshold, and rows of which the gate is sure of some."""
    model, data, task = trained(make, judge, kind, arch)
    model, data = as_graph(model, task), noisy(data) if kind == "image" else data
    before, _ = gate.gate(linear(1.0, True, 0), model, data.train, task, 0.0)
    return model, before, cascade(before, model, threshold, task), data, task


@pytest.mark.parametrize(("kind", "arch"), [("image", CNN), ("table", MLP)])
def test_every_row_of_a_batch_has_the_answer_of_whom_it_belongs_to(make, judge, kind, arch):
    threshold = 0.75
    model, before, joined, data, task = filtered(make, judge, kind, threshold, arch)
    columns = from_dataset(data.test)
    cheap, large = told(as_graph(before, task), data.test), told(model, data.test)
    sure = cheap.max(axis=1) >= threshold
    assert 0 < sure.sum() < len(sure)
    wanted = np.where(sure[:, None], cheap, large)
    session = Session(joined)
    found = session.run(columns)
    assert np.allclose(found["probabilities"], wanted, atol=1e-6)
    known = np.array(model.signature.classes, object)
    assert found["label"].tolist() == known[wanted.argmax(axis=1)].tolist()
    for rows in (sure, ~sure):
        part = session.run({name: column[rows] for name, column in columns.items()})
        assert np.allclose(part["probabilities"], wanted[rows], atol=1e-6)
    for row in range(len(sure)):
        alone = session.run({name: column[row : row + 1] for name, column in columns.items()})
        assert np.allclose(alone["probabilities"], wanted[row : row + 1], atol=1e-6)


def test_the_large_model_stands_in_a_branch_without_its_own_label(make, judge):
    _, _, joined, _, _ = filtered(make, judge)
    graph = onnx.load_from_string(joined).graph
    (fork,) = [node for node in graph.node if node.op_type == "If"]
    branches = {attribute.name: [node.op_type for node in attribute.g.node] for attribute in fork.attribute}
    assert branches["else_branch"] == ["Identity"]
    assert "Conv" in branches["then_branch"]
    assert "ArgMax" not in branches["then_branch"]
    assert "Conv" not in [node.op_type for node in graph.node]


@pytest.mark.parametrize(
    "step", [Static(), Dynamic(), Float16(), Codebook(bits=8)], ids=lambda step: type(step).__name__
)
def test_a_graph_with_a_filter_before_it_can_be_quantized(make, judge, step):
    model, _, joined, data, task = filtered(make, judge, arch=MLP)
    before = model.with_body(joined, "graph", "")
    after = list(step(before, data, task, judge, 0))[-1].result
    assert len(after.body.value) < len(joined)
    columns = from_dataset(data.test)
    one, two = (Session(graph).run(columns)["probabilities"] for graph in (joined, after.body.value))
    assert np.abs(one - two).mean() < 0.02


def test_multiply_adds_of_a_filter_are_those_of_an_unsure_row(make, judge):
    model, before, joined, _, task = filtered(make, judge)
    gates = count(export(before, task))
    assert gates > 0
    assert count(joined) == gates + count(model.body.value)


def test_as_many_rows_are_answered_early_as_the_loss_allows(make, judge):
    model, before, _, data, task = filtered(make, judge)
    cheap, large = told(as_graph(before, task), data.valid), told(model, data.valid)
    found = early(before, model, data.valid, task, 0.05)
    right = [said.argmax(axis=1) == data.valid.target for said in (cheap, large)]
    sure = cheap.max(axis=1) >= found.threshold
    assert found.count == sure.sum()
    assert found.before == pytest.approx(right[1].mean())
    assert found.after == pytest.approx(np.where(sure, *right).mean())
    assert found.after >= found.before - 0.05
    counts = [early(before, model, data.valid, task, loss).count for loss in (0.0, 0.1, 1.0)]
    assert counts == sorted(counts)
    assert counts[-1] == data.valid.rows


def test_a_filter_before_a_quantized_graph_keeps_its_promise_and_says_what_it_does(make, judge):
    model, data, task = trained(make, judge, "image", CNN)
    steps = [Static(), Filter(allow_loss=0.01)]
    *progress, last = chain.run(steps, model, data, task, judge, 0)
    said = next(step.note for step in progress if "answered early" in step.note)
    assert "of 40 validation rows" in said
    assert "bytes" in said
    label = Session(last.result.body.value).run(from_dataset(data.valid))["label"]
    assert (label == data.valid.target).mean() > 0.95


def test_without_validation_rows_some_training_rows_take_their_place(make):
    _, data, _ = make("image", CNN)
    none = Splits(data.train, data.valid.take(np.zeros(0, np.int64)), data.test)
    learned, chosen, what = held(none)
    assert (learned.rows, chosen.rows, what) == (96, 24, "training")


def test_a_filter_that_may_answer_nothing_leaves_the_model(make, judge):
    model, data, task = trained(make, judge, "image", CNN)
    model = as_graph(model, task)
    worst = replace(data.valid, target=2 - told(model, data.valid).argmax(axis=1))
    *_, last = Filter(gate="tree", depth=1, allow_loss=0.0)(model, Splits(data.train, worst, data.test), task, judge, 0)
    assert (last.result is model) == (last.values["early"] == 0)


def test_two_teachers_are_averaged_row_by_row(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    forest, _, _ = trained(make, judge, "table", {"method": "forest", "trees": 5})
    labels = merged(model, forest, data.train, task, 0.25, 1.0, 0.8)
    true = np.eye(2)[task.encode(data.train.target, model.signature.classes)]
    wanted = 0.8 * (0.75 * told(model, data.train) + 0.25 * told(forest, data.train)) + 0.2 * true
    assert np.allclose(labels, wanted, atol=1e-6)


def test_classes_in_another_order_are_put_in_place(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    turned = replace(model, signature=msgspec.structs.replace(model.signature, classes=model.signature.classes[::-1]))
    labels = merged(model, turned, data.train, task, 0.5, 1.0, 1.0)
    assert np.allclose(labels, (told(model, data.train) + told(model, data.train)[:, ::-1]) / 2, atol=1e-6)


def test_a_student_of_two_teachers_learns_from_a_graph(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    forest, _, _ = trained(make, judge, "table", {"method": "forest", "trees": 5})
    step = Merge(model="woods@1", epochs=15)
    first, *_, last = step(model, data, task, judge, 0, other=as_graph(forest, task))
    assert "woods@1" in first.note
    assert last.values["valid_accuracy"] > 0.85
    assert last.result.body.value[0].out_features == 16


def test_a_chain_brings_the_model_that_a_step_names(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    others = {"woods@1": as_graph(trained(make, judge, "table", {"method": "forest", "trees": 5})[0], task)}
    step = Merge(model="woods@1", epochs=2)
    *_, last = chain.run([step], model, data, task, judge, 0, others)
    assert any(line.startswith("distill.merge") for line in last.result.history)
    with pytest.raises(ModelError, match="was not brought"):
        list(chain.run([step], model, data, task, judge, 0))


def test_values_of_two_teachers_are_learned_in_the_unit_of_training(make, judge):
    model, data, task = trained(make, judge, "regress", MLP, epochs=20)
    labels = merged(model, model, data.train, task, 0.5, 1.0, 1.0)
    training = Merge(model="itself@1", epochs=1).training(model, data, task, 0, warm=False)
    taught_by(training, labels)
    mean, deviation = data.train.target.mean(), data.train.target.std()
    assert np.allclose(training.train.encoded.numpy(), (labels - mean) / deviation, atol=1e-4)


def test_a_second_teacher_with_other_classes_or_columns_is_refused(make, judge):
    model, data, task = make("table", MLP)
    images, _, _ = make("image", MLP)
    with pytest.raises(ModelError, match="Both must know the same classes"):
        list(Merge(model="other@1")(model, data, task, judge, 0, other=images))
    strange = msgspec.structs.replace(
        model.signature, inputs=(msgspec.structs.replace(model.signature.inputs[0], name="height"),)
    )
    with pytest.raises(ModelError, match="the column 'height', which the data have not"):
        list(Merge(model="other@1")(model, data, task, judge, 0, other=replace(model, signature=strange)))


def test_a_second_teacher_that_was_not_brought_is_named(make, judge):
    model, data, task = make("table", MLP)
    with pytest.raises(ModelError, match=r"'other@1' is named, and was not brought"):
        list(Merge(model="other@1")(model, data, task, judge, 0))
