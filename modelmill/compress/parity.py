"""Checks that a graph answers as the body does that it was made from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.model import Model

BATCHES = (1, 32)
"""Rows of the two runs: a graph that was traced with one batch size fails with another."""


def check(model: Model, graph: bytes, dataset: Dataset, tolerance: float) -> float:
    """The largest difference on real rows: in probabilities, or in standard deviations of the values.

    Raises ModelError where it is above `tolerance`, or where labels differ that are no ties.
    """
    from modelmill.runtime import calls
    from modelmill.runtime.session import Session

    session, worst, start = Session(graph), 0.0, 0
    wanted = answers(model, dataset, sum(BATCHES))
    for size in BATCHES:
        index = np.arange(start, min(start + size, dataset.rows))
        start += size
        if not len(index):
            break
        found = calls.answers(session, dataset.take(index), size)
        worst = max(worst, difference(found, {name: value[index] for name, value in wanted.items()}))
    if not worst <= tolerance:
        raise ModelError(
            "convert.onnx",
            f"the graph answers otherwise than the {model.body.kind}: off by {worst:.2g}, allowed is {tolerance:g}",
            "Tell us the body that was converted; a larger `tolerance` lets it pass.",
        )
    return worst


def answers(model: Model, dataset: Dataset, rows: int) -> dict[str, Array]:
    """The named outputs of a network or an estimator for the first rows of a data set."""
    from modelmill.runtime.features import features

    inputs = features(model.part, model.signature, dataset)[:rows]
    if model.body.kind == "network":
        from modelmill.train.answer import answers, forward
        from modelmill.train.rows import tensor

        return answers(forward(model.body.value, tensor(inputs)).numpy(), model)
    from modelmill.train.estimate import predictions

    return predictions(model, inputs)


def difference(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    """How far two answers are apart; infinite where labels differ though their probabilities do not tie."""
    if "value" in wanted:
        scale = max(float(np.std(wanted["value"])), float(np.abs(wanted["value"]).max()), 1e-12)
        return _furthest(found["value"], wanted["value"]) / scale
    worst = _furthest(found["probabilities"], wanted["probabilities"])
    for row in np.flatnonzero(found["label"] != wanted["label"]):
        first, second = np.sort(wanted["probabilities"][row])[::-1][:2]
        if first - second > 1e-5:
            return float("inf")
    return worst


def _furthest(first: Array, second: Array) -> float:
    if first.shape != second.shape:
        return float("inf")
    return float(np.abs(first.astype(np.float64) - second.astype(np.float64)).max(initial=0.0))
