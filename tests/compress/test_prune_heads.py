"""Attention heads: what each is worth, that those that go are really gone, and what comes through."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from modelmill.compress import chain
from modelmill.compress.prune.attending import attending, importance
from modelmill.compress.prune.blocks import Blocks
from modelmill.compress.prune.heads import Heads
from modelmill.compress.prune.readings import sample
from modelmill.evaluate.costs.macs import count
from modelmill.evaluate.judge import predict
from modelmill.graph.export import export
from modelmill.method import decode
from modelmill.recipe.grow import picked_spec, untrained
from modelmill.recipe.look import look
from modelmill.spec import read
from modelmill.train.trainers.adam import Adam

ARCH = {"method": "transformer", "width": 16, "heads": 4, "depth": 2, "patch": 2}


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    job = look(read({"data": {"method": "builtin", "name": "digits"}, "arch": ARCH})).job
    model = untrained(job, picked_spec(job, {}), job.splits.train, 0)
    *_, last = Adam(epochs=12, learning_rate=0.01)(model, job.splits, job.task, lambda m: 0.0, 0)
    return last.result, job


def accuracy(model, job):
    rows = job.splits.valid
    return (predict(export(model, job.task), rows)["label"] == rows.target).mean()


def masked(network, layer, head, rows):
    """The outputs with what one head says set to zero."""
    width = layer.size

    def silence(module, given):
        value = given[0].clone()
        value[..., head * width : (head + 1) * width] = 0
        return (value,)

    hook = layer.tell.register_forward_pre_hook(silence)
    try:
        return network(rows)
    finally:
        hook.remove()


def test_a_network_without_some_heads_computes_as_if_they_said_nothing(trained):
    model, _ = trained
    network = untouched(model)
    layer = next(iter(attending(network).values()))
    rows = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        wanted = masked(network, layer, 2, rows)
        layer.keep(torch.tensor([0, 1, 3]))
        np.testing.assert_allclose(network(rows), wanted, rtol=1e-4, atol=1e-5)
    assert (layer.heads, tuple(layer.ask.weight.shape), tuple(layer.tell.weight.shape)) == (3, (36, 16), (16, 12))


def untouched(model):
    return copy.deepcopy(model.body.value).eval()


def test_the_worth_of_a_head_is_the_slope_of_the_loss_by_its_gate(trained):
    model, job = trained
    network = untouched(model)
    layers = list(attending(network).values())
    seen = sample(model, job.splits, job.task, 12)
    found = importance(network, layers, seen, job.task)
    slopes = torch.zeros(layers[0].heads)
    for row in range(len(seen)):
        gates = torch.ones(layers[0].heads, requires_grad=True)
        hook = layers[0].tell.register_forward_pre_hook(
            lambda module, given, gates=gates: (given[0] * gates.repeat_interleave(layers[0].size),)
        )
        loss = job.task.loss(network(seen.features[row : row + 1]), seen.encoded[row : row + 1], None, 0.0)
        slopes += torch.autograd.grad(loss, gates)[0].abs()
        hook.remove()
    wanted = slopes / slopes.pow(2).mean().sqrt()
    torch.testing.assert_close(found[0].float(), wanted, rtol=1e-3, atol=1e-4)


def test_half_the_heads_go_and_the_graph_is_smaller_and_nearly_as_good(trained):
    model, job = trained
    first, *_, last = Heads(epochs=10)(model, job.splits, job.task, lambda m: 0.0, 0)
    assert first.note == "of 8 attention heads 4 go, the least important; one of every layer stays"
    kept = [layer.heads for layer in attending(last.result.body.value).values()]
    assert sum(kept) == 4
    assert min(kept) >= 1
    assert "heads to" in last.result.history[-2]
    before, after = (export(each, job.task) for each in (model, last.result))
    assert count(after) < count(before)
    assert len(after) < len(before)
    assert accuracy(last.result, job) > accuracy(model, job) - 0.06


def test_one_head_of_every_layer_stays_whatever_is_asked(trained):
    model, job = trained
    *_, last = Heads(ratio=0.99, epochs=0)(model, job.splits, job.task, lambda m: 0.0, 0)
    assert [layer.heads for layer in attending(last.result.body.value).values()] == [1, 1]
    *_, again = Heads(ratio=0.99, epochs=0)(last.result, job.splits, job.task, lambda m: 0.0, 0)
    assert again.note == "nothing is removed: of 2 attention heads the share 0.99 is none that can go"
    assert again.result is last.result


def test_halves_of_blocks_go_from_a_transformer(trained):
    model, job = trained
    *_, last = Blocks(ratio=0.5, epochs=2, rows=128)(model, job.splits, job.task, lambda m: 0.0, 0)
    assert len(last.result.body.value) == len(model.body.value) - 2


def test_what_is_left_of_attention_computes_in_integers(trained):
    model, job = trained
    steps = [
        decode("compress", {"method": "prune.heads", "epochs": 2}),
        decode("compress", {"method": "quantize.static"}),
    ]
    *_, last = chain.run(steps, model, job.splits, job.task, lambda m: 0.0, 0)
    rows = job.splits.valid
    assert (predict(last.result.body.value, rows)["label"] == rows.target).mean() > 0.6
    assert b"DequantizeLinear" in last.result.body.value
