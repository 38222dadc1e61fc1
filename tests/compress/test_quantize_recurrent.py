"""LSTM nodes in integers: the operation that onnxruntime has, near what floats answer; GRU stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from modelmill.compress.quantize.dynamic import Dynamic
from modelmill.compress.quantize.executed import executed
from modelmill.evaluate.costs.macs import count
from modelmill.evaluate.judge import predict
from modelmill.graph.export import export
from modelmill.recipe.grow import picked_spec, untrained
from modelmill.recipe.look import look
from modelmill.spec import read


def made(**settings):
    arch = {"method": "rnn", "width": 24, **settings}
    job = look(read({"data": {"method": "builtin", "name": "digits"}, "arch": arch})).job
    model = untrained(job, picked_spec(job, {}), job.splits.train, 0)
    with torch.no_grad():
        model.body.value[-1].weight.mul_(20)
    graph = export(model, job.task)
    *_, last = Dynamic()(model.with_body(graph, "graph", ""), job.splits, job.task, lambda one: 0.0, 0)
    return graph, last.result.body.value, job.splits.valid


@pytest.mark.parametrize(
    "settings", [{}, {"both": True, "depth": 2}, {"head": "average"}], ids=["plain", "both", "mean"]
)
def test_an_lstm_computes_in_integers_and_answers_nearly_the_same(settings):
    before, after, rows = made(unit="lstm", **settings)
    assert "DynamicQuantizeLSTM" in executed(after)
    assert "LSTM" not in executed(after)
    assert len(after) < 0.5 * len(before)
    told, wanted = (predict(graph, rows)["probabilities"] for graph in (after, before))
    assert np.abs(told - wanted).max() < 0.25 * np.abs(wanted - wanted.mean(0)).max()
    assert count(after) == count(before)


def test_a_gru_stays_in_floats():
    _, after, _ = made(unit="gru")
    types = [node.op_type for node in onnx.load_from_string(after).graph.node]
    assert "GRU" in types
    assert "MatMulInteger" in types or "DynamicQuantizeLinear" in types
