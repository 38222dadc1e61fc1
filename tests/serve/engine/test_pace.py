"""Paces follow what is seen: any line is found, a hiccup changes little, and another machine is believed."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.serve.engine.pace import Fit, Pace


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
