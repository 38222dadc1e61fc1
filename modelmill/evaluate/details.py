"""Builds what a report shows beside its figures: confusion, residuals, the latency of one row and of 32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def confusion(outputs: Mapping[str, Array], targets: Array, classes: Sequence[Any]) -> dict[str, Any]:
    """How often each class was taken for each: `matrix[actual][predicted]`, in the order of `classes`.

    >>> confusion({"label": np.array([0, 1, 1])}, np.array([0, 0, 1]), [0, 1])["matrix"]
    [[1, 1], [0, 1]]
    """
    place = {value: i for i, value in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for actual, predicted in zip(targets.tolist(), outputs["label"].tolist(), strict=True):
        if actual in place and predicted in place:
            matrix[place[actual], place[predicted]] += 1
    return {"classes": list(classes), "matrix": matrix.tolist()}


def residuals(outputs: Mapping[str, Array], targets: Array, seed: int, most: int = 1000) -> dict[str, list[float]]:
    """Predicted and actual values of at most `most` rows, drawn at random."""
    rows = np.arange(len(targets))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    predicted = np.asarray(outputs["value"], np.float64).reshape(len(targets), -1)[:, 0]
    return {"predicted": predicted[rows].tolist(), "actual": np.asarray(targets, np.float64)[rows].tolist()}


def latency(costs: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Latencies of one row and of 32 rows, each `{"p50", "p95", "p99", "ratio", ...}` as far as they were measured.

    `ratio`, with its interval's ends, is the time against the baseline's.
    """
    single = {"p50": "latency_ms", "p95": "latency_p95_ms", "p99": "latency_p99_ms"}
    ratios = {"ratio": "latency_ratio", "ratio_low": "latency_ratio_low", "ratio_high": "latency_ratio_high"}
    first = {key: costs[name] for key, name in {**single, **ratios}.items() if name in costs}
    batch = {"p50": costs["latency_b32_ms"]} if "latency_b32_ms" in costs else {}
    if "latency_b32_ms" in baseline:
        batch["baseline_p50"] = baseline["latency_b32_ms"]
    if "latency_ms" in baseline:
        first["baseline_p50"] = baseline["latency_ms"]
    return {"b1": first, "b32": batch}
