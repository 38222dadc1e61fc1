"""Losses of hidden values against hand computations, which stages are compared, and students that learn by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelmill.compress.distill.attention import Attention
from modelmill.compress.distill.hints import Tap, matching
from modelmill.compress.distill.kernels import attention, selectivity, similarity
from modelmill.compress.distill.nst import Nst
from modelmill.compress.distill.similarity import Similarity
from modelmill.errors import ModelError
from modelmill.train.trainers.adam import Adam

CNN = {"method": "cnn", "width": 8, "depth": 2}


def maps(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def told(loss, first, second):
    return float(loss(torch.from_numpy(first), torch.from_numpy(second)))


def test_attention_is_the_distance_of_normalised_energy_maps():
    teacher, student = maps(3, 6, 2, 4, seed=0), maps(3, 2, 2, 4, seed=1)
    energies = [unit((values**2).sum(axis=1).reshape(3, 8)) for values in (teacher, student)]
    wanted = np.mean([np.linalg.norm(a - b) for a, b in zip(*energies, strict=True)])
    assert told(attention, teacher, student) == pytest.approx(wanted, rel=1e-5)


def test_attention_of_hidden_values_is_spread_over_the_batch():
    teacher, student = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32), np.array([[1.0], [0.0]], np.float32)
    # energies (4.5, 8) and (1, 0); made of length one (0.4903, 0.8716) and (1, 0)
    assert told(attention, teacher, student) == pytest.approx(np.hypot(1 - 0.49026, 0.87157), rel=1e-4)


def test_similarity_compares_how_rows_resemble_each_other():
    teacher, student = maps(4, 6, 3, 3, seed=2), maps(4, 2, 5, 5, seed=3)
    first, second = (unit(flat @ flat.T) for flat in (teacher.reshape(4, -1), student.reshape(4, -1)))
    assert told(similarity, teacher, student) == pytest.approx(((first - second) ** 2).sum() / 16, rel=1e-4)


def test_selectivity_is_the_discrepancy_of_two_sets_of_neurons():
    teacher, student = maps(2, 5, 3, 2, seed=4), maps(2, 3, 3, 2, seed=5)
    total = 0.0
    for row in range(2):
        first, second = unit(teacher[row].reshape(5, 6)), unit(student[row].reshape(3, 6))

        def kernel(a, b):
            return np.mean([[float(x @ y) ** 2 for y in b] for x in a])

        total += kernel(first, first) + kernel(second, second) - 2 * kernel(first, second)
    assert told(selectivity, teacher, student) == pytest.approx(total / 2, rel=1e-4)


@pytest.mark.parametrize("loss", [attention, similarity, selectivity])
@pytest.mark.parametrize("shape", [(4, 6, 3, 3), (4, 6, 5), (4, 6)])
def test_a_student_that_does_as_its_teacher_loses_nothing_and_dead_neurons_do_no_harm(loss, shape):
    values = torch.from_numpy(maps(*shape, seed=6))
    assert float(loss(values, values)) == pytest.approx(0, abs=1e-6)
    dead = torch.zeros(shape, requires_grad=True)
    loss(values, dead).backward()
    assert torch.isfinite(dead.grad).all()


def test_maps_match_by_size_and_hidden_layers_by_place(make):
    model, _, _ = make("image", CNN)
    (first, _, _), (second, _, _) = make("image", {**CNN, "width": 4}), make("image", {**CNN, "depth": 3})
    pixels = torch.zeros(2, 1, 8, 8)
    assert matching(model.body.value, first.body.value, pixels) == [("5", "5"), ("8", "8")]
    # a third stage of 2x2 pixels has no like
    assert matching(second.body.value, first.body.value, pixels) == [("5", "5"), ("8", "8")]
    deep, _, _ = make("table", {"method": "mlp", "width": 8, "depth": 4})
    flat, _, _ = make("table", {"method": "mlp", "width": 8, "depth": 2})
    rows = torch.zeros(2, deep.body.value[0].in_features)
    assert matching(deep.body.value, flat.body.value, rows) == [("5", "2"), ("11", "5")]


def test_a_network_is_left_without_hooks_and_in_its_mode(make):
    model, _, _ = make("image", CNN)
    network = model.body.value.train()
    matching(network, network, torch.zeros(2, 1, 8, 8))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    tap = Tap(network, ["5"])
    tap.close()
    assert not network[5]._forward_hooks


@pytest.mark.parametrize("method", [Attention, Similarity, Nst])
def test_a_narrow_student_learns_from_a_cnn(make, judge, method):
    model, data, task = make("image", CNN)
    model = list(Adam(epochs=8)(model, data, task, judge, 0))[-1].result
    first, *_, last = method(ratio=0.5, epochs=10)(model, data, task, judge, 0)
    assert first.note == "a student of width 4 learns from one of width 8"
    assert last.result.body.value[0].out_channels == 4
    assert last.values["valid_accuracy"] > 0.9
    assert not any(module._forward_hooks for module in last.result.body.value.modules())


def test_the_hint_changes_what_is_learned(make, judge):
    model, data, task = make("image", CNN)
    plain, hinted = (
        list(Attention(epochs=2, weight=weight)(model, data, task, judge, 0))[-1].result.body.value[0].weight
        for weight in (0.0, 1.0)
    )
    assert not torch.equal(plain, hinted)


def test_a_network_without_hidden_layers_is_refused_before_any_training(make, judge):
    model, data, task = make("table", {"method": "mlp", "width": 8, "depth": 0})
    with pytest.raises(ModelError, match="no stage of the model has its like in the student"):
        next(iter(Attention()(model, data, task, judge, 0)))
