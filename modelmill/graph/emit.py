"""Writes what a body computes as ONNX operations: networks, estimators, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.model import Body


def emit(body: Body, value: str, writer: Writer, classes: Sequence[Any]) -> tuple[str, str]:
    """Write the body's operations on the value of that name; the name of the raw output, and its form.

    Forms: "logits" or "probabilities" (rows, classes) where there are classes, else "value" (rows, 1). A network is
    written as it is in evaluation, whatever mode it is in. Raises ModelError for what cannot be written.
    """
    if body.kind == "network":
        from modelmill.graph import networks

        return networks.emit(body.value, value, writer, bool(classes))
    if body.kind == "estimator":
        from modelmill.graph import estimators

        return estimators.emit(body.value, value, writer, classes)
    raise ModelError("graph.emit", "the body is an ONNX graph already", "A graph body is exported as it is.")
