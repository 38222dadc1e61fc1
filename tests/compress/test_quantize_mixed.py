"""Mixed precision under a limit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelmill.compress.quantize.allot import Option, allot
from modelmill.compress.quantize.calibrate import chosen, opened, ranges
from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.mixed import Mixed
from modelmill.compress.quantize.mixing import Mixer
from modelmill.graph.clean import stripped
from modelmill.graph.export import export
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 64, "depth": 2}


def graph(make, judge, arch, kind="image", epochs=5):
    torch.set_num_threads(1)
    model, data, task = make(kind, arch)
    trained = list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result
    return trained.with_body(export(trained, task), "graph", ""), data, task


def last(steps):
    return list(steps)[-1]


def test_allotting_finds_what_trying_all_finds():
    rng = np.random.default_rng(0)
    table = [[Option(str(i), *rng.uniform(0, 1, 2)) for i in range(3)] for _ in range(5)]
    every = [[a, b, c, d, e] for a in range(3) for b in range(3) for c in range(3) for d in range(3) for e in range(3)]

    def sums(picked):
        chosen = [options[number] for options, number in zip(table, picked, strict=True)]
        return sum(option.loss for option in chosen), sum(option.cost for option in chosen)

    for limit in (1.2, 1.8, 2.6):
        best = min(sums(picked)[0] for picked in every if sums(picked)[1] <= limit)
        loss, cost = sums(allot(table, limit))
        assert cost <= limit + 1e-9
        assert loss == pytest.approx(best, abs=0.02)


def test_a_smaller_limit_gives_a_smaller_mix_and_one_that_nothing_keeps_the_nearest(make, judge):
    model, data, task = graph(make, judge, MLP)
    sizes, notes = [], []
    for ratio in (0.6, 0.25, 0.01):
        made = last(Mixed(ratio=ratio)(model, data, task, judge, 0))
        sizes.append(len(made.result.body.value))
        notes.append(made.note)
        if ratio > 0.1:
            assert len(made.result.body.value) <= ratio * len(model.body.value)
            assert "within the limit" in made.note
    assert sizes == sorted(sizes, reverse=True)
    assert "the nearest to the limit" in notes[-1]


def test_neighbours_of_8_and_4_bits_both_compute_on_integers(make, judge):
    model, data, _ = graph(make, judge, MLP)
    loaded, names = opened(model.body.value, 64)
    mixer = Mixer(loaded, names, ranges(loaded, chosen(loaded, names), data.train, "minmax"), Mixed(), data.train)
    for ways in (("8 bits", "4 bits", "8 bits"), ("4 bits", "8 bits", "4 bits")):
        ran = executed(stripped(mixer.graph(dict(zip(names, ways, strict=True)))))
        assert ran.count("MatMulNBits") == ways.count("4 bits")
        assert ran.count("QGemm") == ways.count("8 bits")


def test_a_latency_limit_is_measured_and_told(make, judge):
    model, data, task = graph(make, judge, MLP, epochs=1)
    first, *_, end = Mixed(by="latency", ratio=1.0, rows=32)(model, data, task, judge, 0)
    assert "the latency may be" in first.note
    assert end.result.signature == model.signature
