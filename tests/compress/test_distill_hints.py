"""Losses of hidden values against hand computations, which stages are compared, and students that learn by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.compress.distill.attention import Attention
from modelmill.compress.distill.hints import Tap, matching
from modelmill.compress.distill.kernels import attention, selectivity, similarity
from modelmill.compress.distill.nst import Nst
from modelmill.compress.distill.similarity import Similarity
from modelmill.compress.distill.student import narrower
from modelmill.errors import ModelError
from modelmill.network.attention import Pooled, Tokens
from modelmill.recipe.grow import picked_spec, untrained
from modelmill.recipe.look import look
from modelmill.runtime.features import features
from modelmill.spec import read
from modelmill.train.rows import tensor
from modelmill.train.trainers.adam import Adam

CNN = {"method": "cnn", "width": 8, "depth": 2}
TRANSFORMER = {"method": "transformer", "width": 16, "depth": 2, "patch": 2}
RNN = {"method": "rnn", "width": 16}
HINTS = [(Attention, attention), (Similarity, similarity), (Nst, selectivity)]


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


def on_digits(arch, rows=200):
    """An untrained model of digits, which `rnn` reads as sequences; few rows; the task."""
    job = look(read({"data": {"method": "builtin", "name": "digits"}, "arch": arch})).job
    train = job.splits.train.take(np.arange(rows))
    return untrained(job, picked_spec(job, {}), train, 0), replace(job.splits, train=train), job.task


@pytest.mark.parametrize("loss", [attention, similarity, selectivity])
def test_tokens_are_places_and_the_order_of_their_channels_is_nothing(loss):
    torch.manual_seed(0)
    networks = [nn.Sequential(Tokens(nn.Conv1d(2, 5, 1), 4, 5, first=False), Pooled(4, 5, False)) for _ in range(2)]
    (mine, _), (theirs, _) = networks
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        for taken, given in ((mine.place.T, theirs.place.T), (mine.cut.weight, theirs.cut.weight)):
            taken.copy_(given[order])
        mine.cut.bias.copy_(theirs.cut.bias[order])
    taps = [Tap(network, ["0"]) for network in networks]
    rows = torch.rand(3, 2, 4)
    tokens = [network[0](rows) for network in networks]
    (first,), (second,) = (tap.values() for tap in taps)
    assert torch.equal(first, tokens[0].transpose(1, 2))
    assert float(loss(first, second).detach()) == pytest.approx(0, abs=1e-6)
    if loss is attention:  # a map has a number for every token
        assert float(loss(first, second.roll(1, 2)).detach()) > 0.01


@pytest.mark.parametrize("pool", ["average", "first"])
def test_tokens_match_behind_the_last_block_whatever_their_width(make, pool):
    (teacher, _, _), (student, _, _) = (make("image", {**TRANSFORMER, "pool": pool, "width": w}) for w in (16, 4))
    rows = torch.rand(3, 1, 8, 8)
    # tokens, four halves of blocks, a layer norm behind which all tokens are as active, pooled, linear
    assert matching(teacher.body.value, student.body.value, rows) == [("4", "4")]
    for network, width in ((teacher.body.value, 16), (student.body.value, 4)):
        tap = Tap(network, ["4", "6"])
        network(rows)
        assert [value.shape for value in tap.values()] == [(3, width, 16 + (pool == "first")), (3, width)]


@pytest.mark.parametrize("unit", ["gru", "lstm"])
@pytest.mark.parametrize(
    ("head", "depth", "path"), [("last", 1, "0.unit"), ("last", 2, "1.unit"), ("average", 1, "0.unit")]
)
def test_recurrent_layers_match_by_what_they_know_at_every_step(unit, head, depth, path):
    arch = {**RNN, "unit": unit, "head": head, "depth": depth, "both": True}
    teacher, student = (on_digits({**arch, "width": width}, 10)[0].body.value for width in (6, 3))
    rows = torch.rand(4, 8, 8)
    assert matching(teacher, student, rows) == [(path, path)]
    tap = Tap(teacher, [path])
    teacher(rows)
    (found,) = tap.values()
    assert found.shape == (4, 12, 8)
    layer = teacher[depth - 1]
    layer.last = True
    end = teacher[:depth](rows)
    assert torch.allclose(end, torch.cat([found[:, :6, -1], found[:, 6:, 0]], 1), atol=1e-6)


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


def hint_of(loss, teacher, student, rows):
    """How far the student's hidden layers are from those of its teacher."""
    networks = [model.body.value.eval() for model in (teacher, student)]
    paths = matching(*networks, rows)
    taps = [Tap(network, way) for network, way in zip(networks, zip(*paths, strict=True), strict=True)]
    with torch.no_grad():
        for network in networks:
            network(rows)
        found = sum(float(loss(*pair)) for pair in zip(*(tap.values() for tap in taps), strict=True))
    for tap in taps:
        tap.close()
    return found


@pytest.mark.parametrize(("method", "loss"), HINTS)
@pytest.mark.parametrize("arch", [CNN, TRANSFORMER, RNN], ids=lambda arch: arch["method"])
def test_a_student_that_listens_to_the_hint_comes_nearer_to_its_teacher(judge, arch, method, loss):
    model, data, task = on_digits(arch)
    model = list(Adam(epochs=6)(model, data, task, judge, 0))[-1].result
    rows = tensor(features(model.part, model.signature, data.valid))
    fresh, deaf, listening = (
        hint_of(loss, model, student, rows)
        for student in (
            narrower(model, 0.5, data.train, 0),
            list(method(epochs=6, weight=0)(model, data, task, judge, 0))[-1].result,
            list(method(epochs=6, weight=10 * method().weight)(model, data, task, judge, 0))[-1].result,
        )
    )
    assert listening < 0.9 * fresh
    assert listening < 0.7 * deaf


def test_a_network_without_hidden_layers_is_refused_before_any_training(make, judge):
    model, data, task = make("table", {"method": "mlp", "width": 8, "depth": 0})
    with pytest.raises(ModelError, match="no stage of the model has its like in the student"):
        next(iter(Attention()(model, data, task, judge, 0)))
