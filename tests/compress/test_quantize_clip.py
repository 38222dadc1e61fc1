"""Activations cut at bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.compress import chain
from modelmill.compress.quantize.bounds import begin, bounded, opened, settled
from modelmill.compress.quantize.clip import Clip
from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.static import Static
from modelmill.train.trainers.adam import Adam


def trained(make, judge, arch, kind="image"):
    model, data, task = make(kind, arch)
    return list(Adam(epochs=4)(model, data, task, judge, 0))[-1].result, data, task


def bounds(model):
    return [module for module in model.body.value.modules() if isinstance(module, nn.Hardtanh)]


def test_a_percentile_of_the_numbers_above_zero_is_the_bound():
    network = bounded(nn.Sequential(nn.Identity(), nn.ReLU()))
    rows = torch.cat([-torch.ones(50, 1), torch.arange(1.0, 102.0)[:, None]])
    begin(network, rows, 90)
    last = settled(network)[1]
    assert last.min_val == 0
    assert last.max_val == pytest.approx(91, abs=2)
    assert last(torch.tensor([-3.0, 5.0, 500.0])).tolist() == [0, 5, last.max_val]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_every_open_activation_is_bounded_and_the_network_still_is_written(make, judge, activation):
    model, data, task = trained(make, judge, {"method": "mlp", "width": 16, "depth": 2, "activation": activation})
    first, *_, last = Clip(bounds="percentile", percent=90, epochs=0)(model, data, task, judge, 0)
    assert first.note.startswith("2 activations are cut above 90 %")
    assert len(bounds(last.result)) == 2
    graph = list(chain.run([], last.result, data, task, judge, 0))[-1].result.body.value
    assert executed(graph).count("Clip") <= 2


def test_learned_bounds_move_and_fixed_ones_stay(make, judge):
    model, data, task = trained(make, judge, {"method": "mlp", "width": 16, "depth": 1})
    found = {}
    for way in ("learned", "percentile"):
        for epochs in (0, 3):
            method = Clip(bounds=way, percent=80, epochs=epochs, learning_rate=0.02)
            found[way, epochs] = bounds(list(method(model, data, task, judge, 0))[-1].result)[0].max_val
    assert found["percentile", 0] == found["percentile", 3] == found["learned", 0]
    assert found["learned", 3] != found["learned", 0]


def test_before_integers_the_cut_is_free(make, judge):
    model, data, task = trained(make, judge, {"method": "cnn", "width": 8, "depth": 2})
    method = Clip(bounds="percentile", percent=95, epochs=1)
    result = list(chain.run([method, Static()], model, data, task, judge, 0))[-1].result
    assert not {"Clip", "Conv", "Gemm"}.intersection(executed(result.body.value))


def test_a_network_without_open_activations_comes_back_with_a_note(make, judge):
    model, data, task = trained(make, judge, {"method": "mlp", "width": 8, "depth": 1, "activation": "tanh"})
    *_, last = Clip()(model, data, task, judge, 0)
    assert last.result is model
    assert "nothing to clip" in last.note
    assert opened(model.body.value) == 0
    assert np.isfinite(model.body.value[1].weight.detach().numpy()).all()
