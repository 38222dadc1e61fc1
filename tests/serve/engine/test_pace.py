"""Paces follow what is seen: any line is found, a hiccup changes little, and another machine is believed."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.serve.engine.pace import LONG_MS, MANY_MS, Fit, Pace, measure


@settings(max_examples=60, deadline=None)
@given(
    start=st.floats(0.01, 50),
    row=st.floats(0.001, 10),
    wrong=st.floats(0.5, 2.0),
    seed=st.integers(0, 1000),
)
def test_the_line_is_found_from_noisy_runs_whatever_the_first_measurement_said(start, row, wrong, seed):
    draw = random.Random(seed)
    fit = Fit(Pace(start * wrong, row * wrong))
    for _ in range(200):
        rows = draw.choice([1, 2, 5, 10, 30])
        fit.see(rows, (start + row * rows) * draw.uniform(0.95, 1.05), 0.0)
    for rows in (1, 10, 30):
        assert fit.of(rows) == pytest.approx(start + row * rows, rel=0.15)


def test_a_hiccup_changes_little_and_a_slower_machine_is_believed():
    fit = Fit(Pace(1.0, 0.1))
    for _ in range(50):
        fit.see(1, 1.1, 0.0)
    fit.see(1, 500.0, 0.0)
    assert fit.of(1) < 1.3
    for _ in range(10):
        fit.see(1, 4.4, 0.0)
    assert fit.of(1) == pytest.approx(4.4, rel=0.2)
    assert fit.of(16) == pytest.approx(4 * 2.6, rel=0.3)


def test_where_all_runs_have_one_size_the_slope_is_the_measured_one():
    fit = Fit(Pace(1.0, 0.1))
    for _ in range(500):
        fit.see(4, 2.8, 0.0)
    assert fit.of(4) == pytest.approx(2.8, rel=0.01)
    assert fit.row_ms == pytest.approx(0.2, rel=0.1)


def test_nothing_is_known_until_the_first_run():
    fit = Fit(Pace(math.inf, 0.0))
    assert not fit.is_known
    assert fit.of(10) == 0.0
    fit.see(4, 8.0, 0.0)
    assert fit.of(4) == pytest.approx(8.0)


class Clocked:
    """A model whose runs take as long as it says, on a clock of its own."""

    def __init__(self, monkeypatch, start_ms, row_ms):
        self.now_s, self.start_ms, self.row_ms = 0.0, start_ms, row_ms
        monkeypatch.setattr("modelmill.serve.engine.pace.time.perf_counter", lambda: self.now_s)

    def run(self, columns, outputs=None, stop=None):
        self.now_s += (self.start_ms + self.row_ms * len(columns["x"])) / 1000
        return {}


@pytest.mark.parametrize(("start_ms", "row_ms"), [(0.1, 0.01), (3.0, 2.0), (10.0, 60.0), (200.0, 700.0)])
def test_a_model_is_timed_in_few_of_its_own_runs(monkeypatch, start_ms, row_ms):
    model = Clocked(monkeypatch, start_ms, row_ms)
    pace = measure(model, {"x": np.zeros((1, 1))}, batches=True)
    assert (pace.start_ms, pace.row_ms) == (pytest.approx(start_ms), pytest.approx(row_ms))
    one_ms = start_ms + row_ms
    assert 1000 * model.now_s < 5 * one_ms + 10 * MANY_MS


def test_who_waits_for_the_first_answer_waits_for_one_run_of_a_slow_model(monkeypatch):
    model = Clocked(monkeypatch, 200.0, 700.0)
    pace = measure(model, {"x": np.zeros((1, 1))}, batches=True, hurried=True)
    assert model.now_s == pytest.approx(0.9)
    assert pace.of(1) == pytest.approx(900.0)
    assert pace.of(1) > LONG_MS
