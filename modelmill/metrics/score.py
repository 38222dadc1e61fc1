"""Metrics by name: their figures, their intervals, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelmill.contracts import Array, Metric, Outputs
from modelmill.errors import SpecError
from modelmill.method import find
from modelmill.metrics.places import coded

DRAW_ROWS = 5000
"""Rows of one draw at most: of more rows smaller draws are taken, and the interval is narrowed accordingly."""


def score(metrics: Sequence[str], outputs: Outputs, targets: Array, classes: Sequence[Any]) -> dict[str, float]:
    """The figure of every metric for a model's outputs and the true targets; NaN where it is not defined.

    >>> score(["mae", "rmse"], {"value": np.array([1.0, 3.0])}, np.array([1.0, 1.0]), ())["mae"]
    1.0
    """
    named = {name: _metric(name, outputs, targets) for name in metrics}
    data = coded(outputs, targets, classes)
    return {name: float(metric.total(metric.part(*data))) for name, metric in named.items()}


def interval(
    metric: str, outputs: Outputs, targets: Array, classes: Sequence[Any], seed: int, draws: int = 200
) -> tuple[float, float]:
    """The 95 % interval of a metric: rows are drawn with replacement, and the middle of the figures is given.

    Draws for which the metric is not defined are left out; (NaN, NaN) where none is left.

    Efron (1979), Bootstrap methods: another look at the jackknife; Bickel, Götze & van Zwet (1997), Resampling fewer
    than n observations.
    """
    method = _metric(metric, outputs, targets)
    answers, true, labels = coded(outputs, targets, classes)
    rows = len(true)
    if rows == 0:
        return float("nan"), float("nan")
    size, rng = min(rows, DRAW_ROWS), np.random.default_rng(seed)
    figures = np.array(
        [_figure(method, answers, true, labels, rng.integers(0, rows, size)) for _ in range(draws)], np.float64
    )
    figures = figures[~np.isnan(figures)]
    if not len(figures):
        return float("nan"), float("nan")
    low, high = np.percentile(figures, [2.5, 97.5])
    if size == rows:
        return float(low), float(high)
    middle, share = method.total(method.part(answers, true, labels)), (size / rows) ** 0.5
    return float(middle + (low - middle) * share), float(middle + (high - middle) * share)


def doubt(
    metric: str, pair: tuple[Outputs, Outputs], targets: Array, classes: Sequence[Any], seed: int, draws: int = 200
) -> float:
    """The standard error of the difference between two models' figures on the same rows; 0 where they answer alike.

    Rows are drawn for both at once: what both find hard says nothing of which is better.

    >>> answers = {"value": np.array([1.0, 3.0, 2.0])}
    >>> doubt("mae", (answers, answers), np.array([1.0, 1.0, 2.0]), (), 0)
    0.0
    """
    method = _metric(metric, pair[0], targets)
    data = [coded(outputs, targets, classes) for outputs in pair]
    rows = len(data[0][1])
    size, rng = min(rows, DRAW_ROWS), np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        index = rng.integers(0, rows, size)
        first, second = (_figure(method, *one, index) for one in data)
        found.append(second - first)
    return float(np.nanstd(found) * (size / rows) ** 0.5)


def better(name: str) -> str:
    """Which way is better: "higher" or "lower".

    >>> better("rmse")
    'lower'
    """
    return str(_class(name).better)


def _figure(metric: Metric, outputs: Outputs, targets: Array, classes: Sequence[Any], index: Array) -> float:
    drawn = {name: values[index] for name, values in outputs.items()}
    return metric.total(metric.part(drawn, targets[index], classes))


def _class(name: str) -> type[Metric]:
    found: type[Metric] = find("metrics", name.rpartition(".")[2], "metrics")
    return found


def _metric(name: str, outputs: Outputs, targets: Array) -> Metric:
    """The metric, where the outputs are of a task that it knows."""
    cls = _class(name)
    task = "compute" if targets.dtype.names else "regress" if "value" in outputs else "classify"
    if task not in cls.tasks:
        message = f"is a metric of {' and '.join(sorted(cls.tasks))}, and the task is {task}"
        raise SpecError(f"metrics/{name}", message, "See `modelmill methods metrics`.")
    return cls()
