"""On real digits what is pruned stays good, is smaller, and answers in the runtime as the network does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.compress.prune.blocks import Blocks
from modelmill.compress.prune.gates import Gates
from modelmill.compress.prune.hard_concrete import HardConcrete, expected, freed, gated, gates
from modelmill.compress.prune.magnitude import Magnitude
from modelmill.compress.prune.missing import least_missed
from modelmill.compress.prune.norm_scale import NormScale
from modelmill.compress.prune.subset import Subset
from modelmill.compress.prune.taylor import Taylor
from modelmill.compress.prune.weights import Weights
from modelmill.data.read import read
from modelmill.data.split import split
from modelmill.graph.digest import digest
from modelmill.graph.export import export
from modelmill.method import decode
from modelmill.model import Body, Model, Part
from modelmill.network.blocks import Residual
from modelmill.prepare.chain import defaults, prepare
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.signature import Signature
from modelmill.task.classify import Classify
from modelmill.train.answer import forward
from modelmill.train.rows import rows
from modelmill.train.trainers.adam import Adam

ARCH = {"method": "mlp", "width": 48, "depth": 3}


@pytest.fixture(scope="module")
def digits():
    """A network trained on digits, its rows and its task."""
    splits, task = split(read({"method": "builtin", "name": "digits"}), 0, "classify"), Classify()
    fields, classes = splits.train.fields, tuple(sorted(set(splits.train.target.tolist())))
    signature = Signature("classify", fields, task.declare(classes), classes, "y")
    prepared = prepare([decode("prepare", step) for step in defaults(fields, "image")], splits.train, "image")
    body = Body("network", decode("arch", ARCH)(signature, prepared.shape, 0), ARCH)
    model = Model((Part(body, prepared.fragment),), signature)
    return list(Adam(epochs=10)(model, splits, task, None, 0))[-1].result, splits, task


@pytest.mark.parametrize(
    "step",
    [
        Magnitude(epochs=4),
        Taylor(epochs=4, scope="global"),
        Subset(epochs=4),
        NormScale(epochs=4, penalty_epochs=2),
        Blocks(epochs=6),
        Gates(epochs=3, gate_epochs=5, penalty=2, gate_rate=100),
        Weights(epochs=8, criterion="gradient"),
    ],
    ids=lambda step: f"{type(step).__name__}-{getattr(step, 'criterion', '')}",
)
def test_what_is_pruned_stays_good_and_answers_in_the_runtime_as_the_network_does(digits, step):
    model, data, task = digits
    first, *_, last = step(model, data, task, None, 0)
    assert first.note
    assert last.values["valid_accuracy"] > 0.93
    network, graph = last.result.body.value, export(last.result, task)
    if not isinstance(step, Weights):
        assert len(graph) < 0.8 * len(export(model, task))
    answers = Session(graph).run(from_dataset(data.test))["probabilities"]
    raw = forward(network, rows(last.result, data.test, task).features)
    assert np.allclose(answers, raw.softmax(1), atol=1e-4)


def test_gates_say_what_closed_and_the_same_seed_closes_the_same(digits):
    model, data, task = digits
    step = Gates(epochs=0, gate_epochs=2, penalty=3, gate_rate=200, multiple=1)
    runs = [list(step(model, data, task, None, 1)) for _ in range(2)]
    assert digest(export(runs[0][-1].result, task)) == digest(export(runs[1][-1].result, task))
    assert "no layer may go further than 1: 48 to 5" in runs[0][0].note
    assert any("weights" in progress.note and "stay" in progress.note for progress in runs[0][1:])


def test_where_no_gate_closes_the_model_comes_through(digits):
    model, data, task = digits
    *_, last = Gates(epochs=0, gate_epochs=1, penalty=0, gate_rate=0.01)(model, data, task, None, 0)
    assert last.result is model
    assert "no gates closed at a penalty of 0" in last.note


def test_gates_that_are_folded_and_cut_change_no_answer(digits):
    model, _, _ = digits
    network = gated(model.body.value, 0.9).eval()
    with torch.no_grad():
        for gate in gates(network):
            gate.log_alpha[::2] = -5
            gate.log_alpha[1::4] = 0.3
    rows = torch.rand(5, 1, 8, 8)
    smaller, counts = freed(network, 0.9, 1)
    assert counts == [len(gate.log_alpha) // 2 for gate in gates(network)]
    assert torch.allclose(network(rows), smaller.eval()(rows), atol=1e-5)


def test_a_hard_concrete_gate_is_what_the_paper_says():
    gate = HardConcrete(0, 200_000, 1, 0.5)
    assert gate.eval()().unique().tolist() == pytest.approx([0.5])
    assert float(gate.open()[0].detach()) == pytest.approx(1 / (1 + (0.1 / 1.1) ** (2 / 3)))
    torch.manual_seed(0)
    gate.train().draw()
    drawn = gate().detach()
    assert float((drawn > 0).float().mean()) == pytest.approx(float(gate.open()[0].detach()), abs=0.005)
    assert float(drawn.min()) == 0
    assert float(drawn.max()) == 1


def test_the_expected_share_counts_weights_and_not_gates():
    network = gated(nn.Sequential(nn.Linear(9, 2), nn.ReLU(), nn.Linear(2, 9), nn.Linear(9, 1)), 0.9)
    with torch.no_grad():
        gates(network)[0].log_alpha.fill_(-1e4)
        gates(network)[1].log_alpha.fill_(1e4)
    of_each = [2 * (9 + 9), 9 * (2 + 1)]
    assert float(expected(network).detach()) == pytest.approx(of_each[1] / sum(of_each))


def test_a_block_that_does_nothing_is_missed_least(digits):
    model, data, task = digits
    network = model.body.value
    idle = Residual(nn.Sequential(nn.Linear(48, 48), nn.BatchNorm1d(48)), nn.Identity(), nn.ReLU()).eval()
    with torch.no_grad():
        idle.body[1].weight.zero_()
        idle.body[1].bias.zero_()
    longer = nn.Sequential(*list(network)[:7], idle, *list(network)[7:])
    state = {name: value.clone() for name, value in longer.state_dict().items()}
    seen = rows(model, data.valid, task)
    assert least_missed(longer, 1, seen, task) == {1}
    assert all(torch.equal(value, state[name]) for name, value in longer.state_dict().items())


def test_a_network_without_blocks_that_can_go_comes_through(digits):
    model, data, task = digits
    bare = model.with_body(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "network", "")
    (only,) = Blocks()(bare, data, task, None, 0)
    assert only.result is bare
    assert "0 blocks can go" in only.note
