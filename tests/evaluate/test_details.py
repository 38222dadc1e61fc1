"""Confusion, residuals and latencies are as counted by hand."""

from __future__ import annotations

import numpy as np

from modelmill.evaluate.details import confusion, latency, residuals


def test_a_row_of_the_matrix_is_what_it_was_and_a_column_what_was_said() -> None:
    said = np.array(["b", "b", "a"], dtype=object)
    found = confusion({"label": said}, np.array(["a", "b", "b"], dtype=object), ("a", "b"))
    assert found == {"classes": ["a", "b"], "matrix": [[0, 1], [1, 1]]}


def test_a_label_that_was_never_trained_is_left_out() -> None:
    found = confusion({"label": np.array([0, 1])}, np.array([7, 1]), (0, 1))
    assert found["matrix"] == [[0, 0], [0, 1]]


def test_residuals_keep_pairs_together_and_are_drawn_by_the_seed() -> None:
    actual = np.arange(50, dtype=np.float32)
    found = residuals({"value": actual + 1}, actual, seed=1, most=10)
    assert len(found["actual"]) == 10
    assert [p - a for p, a in zip(found["predicted"], found["actual"], strict=True)] == [1.0] * 10
    assert found == residuals({"value": actual + 1}, actual, seed=1, most=10)
    assert found != residuals({"value": actual + 1}, actual, seed=2, most=10)


def test_latencies_stand_beside_the_baseline() -> None:
    costs = {"latency_ms": 1.0, "latency_p99_ms": 2.0, "latency_b32_ms": 9.0, "latency_ratio": 0.5}
    found = latency(costs, {"latency_ms": 2.0, "latency_b32_ms": 18.0})
    assert found["b1"] == {"p50": 1.0, "p99": 2.0, "ratio": 0.5, "baseline_p50": 2.0}
    assert found["b32"] == {"p50": 9.0, "baseline_p50": 18.0}
