"""Served files are judged on the runtime that serves them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelmill.errors import ModelError, UnknownName
from modelmill.evaluate.judge import FULL, QUICK, REPORTED, costs, evaluate, measure, predict


def test_answers_come_for_all_rows_in_order(echo, signs) -> None:
    data, _ = signs
    answers = predict(echo, data)
    assert answers["label"].tolist() == ["no", "yes"] * 150
    assert answers["probabilities"].shape == (300, 2)


def test_quality_comes_with_its_split_and_an_interval_around_it(echo, signs) -> None:
    data, signature = signs
    found = evaluate(echo, data, signature, ["accuracy", "log_loss"], "test", seed=0)
    assert found["accuracy"].value == pytest.approx(0.9), "one label in ten is wrong"
    assert found["accuracy"].split == "test"
    low, high = found["accuracy"].interval
    assert 0.85 < low < 0.9 < high < 0.95
    assert found["log_loss"].value == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1), abs=1e-5)


def test_same_seed_same_interval(echo, signs) -> None:
    data, signature = signs
    first, second = (evaluate(echo, data, signature, ["accuracy"], "test", seed=3) for _ in range(2))
    assert first == second


def test_rows_without_targets_are_not_judged(echo, signs) -> None:
    data, signature = signs
    with pytest.raises(ModelError, match="the validation rows have no targets"):
        evaluate(echo, replace(data, target=None), signature, ["accuracy"], "validation", seed=0)


def test_only_what_is_wanted_is_measured_each_method_once(dense, rows) -> None:
    assert [type(cost).__name__ for cost in costs(["latency_p99_ms", "latency_ms", "size_kb"])] == ["Size", "Latency"]
    (figures,) = measure([dense(4)], rows, ["macs", "size_kb"], quick=True)
    assert figures.keys() == {"macs", "size_kb", "size_bytes"}


def test_every_reported_cost_has_a_method_quick_and_full() -> None:
    for plans in (FULL, QUICK):
        assert set(REPORTED) <= {name for cost in plans for name in cost.gives}


def test_an_unknown_cost_is_refused_with_the_closest_name(dense, rows) -> None:
    with pytest.raises(UnknownName, match=r"no cost named 'latency_mms'. Did you mean latency_ms"):
        measure([dense(4)], rows, ["latency_mms"])


def test_no_rows_are_nothing_to_measure_on(dense, rows) -> None:
    with pytest.raises(ModelError, match="no rows to measure on"):
        measure([dense(4)], rows.take(np.zeros(0, np.int64)))
