"""Averages over the rows of a batch, oldest first, as operations of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.compose import add_prefix

from modelmill.compress.joining import alike, checked, followed, needed, opsets
from modelmill.contracts import Array, Task
from modelmill.dataset import Dataset, Splits
from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.graph.build import tensor, to_onnx
from modelmill.graph.clean import load
from modelmill.graph.scopes import reads
from modelmill.model import Model
from modelmill.signature import Field, Signature

WHERE = "compress.average.smooth"

LEAST = 1e-3
"""Rows that count less than this, beside the newest, are left out."""


def refuse(data: Splits, signature: Signature) -> None:
    """Raise ModelError for data that are not one series in the order of time, and for models that take no series."""
    if signature.task not in ("classify", "regress"):
        message = f"the file's task is {signature.task}: nobody has said which output is to be averaged"
        raise ModelError(WHERE, message, "Import it with a task, classify or regress.")
    if any(field.rows == 1 for field in signature.inputs):
        raise ModelError(WHERE, "the model takes one row a call, which is no series", "Leave this step out.")
    if data.train.times is None:
        raise ModelError(WHERE, "the data have no time column", "Name it with --time, or leave this step out.")
    if data.train.groups is not None:
        raise ModelError(WHERE, "rows of several groups are several series", "Leave this step out.")
    for part in (data.train, data.valid):
        if part.times is not None and (np.diff(part.times) < 0).any():
            raise ModelError(WHERE, "the rows are not in the order of time", "Sort the data by their time column.")


def kernel(by: str, window: int) -> Array:
    """What each row counts, the newest last.

    >>> kernel("moving", 3).tolist()
    [1.0, 1.0, 1.0]
    >>> kernel("exponential", 3)[-3:].tolist()
    [0.25, 0.5, 1.0]
    """
    if by == "moving":
        return np.ones(window, np.float32)
    kept = 1 - 2 / (window + 1)
    rows = 1 + int(np.floor(np.log(LEAST) / np.log(kept)))
    ages = np.arange(rows)[::-1]
    return np.asarray(kept**ages, np.float32)


def smoothed(model: Model, weights: Array, task: Task) -> bytes:
    """The model's graph with its probabilities or values averaged, and what follows from them.

    The first rows of a batch are averages over those that there are.
    """
    signature = model.signature
    output = "probabilities" if signature.classes else "value"
    first, last = alike(map(load, (model.body.value, _tail(signature, weights, task))))
    first = add_prefix(first, "m.", rename_inputs=False)
    last = add_prefix(last, "s.", rename_inputs=False, rename_outputs=False)
    _rename(last, "rough", f"m.{output}")
    kept = needed(first.graph.node, [f"m.{output}"])
    read = {name for node in kept for name in reads(node)}
    weighing = [constant for constant in first.graph.initializer if constant.name in read]
    del first.graph.node[:], first.graph.initializer[:]
    first.graph.node.extend(kept)
    first.graph.initializer.extend(weighing)
    followed(first, last)
    opsets(first, [last], WHERE)
    return checked(first, WHERE)


def _rename(model: Any, name: str, new: str) -> None:
    for node in model.graph.node:
        for place, given in enumerate(node.input):
            if given == name:
                node.input[place] = new


def _tail(signature: Signature, weights: Array, task: Task) -> bytes:
    """From the rough answers, (rows, classes) or (rows,), to the named outputs."""
    classes = len(signature.classes)
    writer = Writer(taken=("rough",))
    series = writer.op("Transpose", ["rough"], {"perm": [1, 0]}) if classes else "rough"
    series = writer.op("Reshape", [series, writer.constant([classes or 1, 1, -1])])
    mean = writer.op("Div", [_summed(series, weights, writer), _summed(_ones(writer), weights, writer)])
    if classes:
        mean = writer.op("Transpose", [writer.op("Squeeze", [mean, writer.constant([1])])], {"perm": [1, 0]})
        task.decode(mean, "probabilities", signature, writer)
    else:
        task.decode(mean, "value", signature, writer)
    inputs = [Field("rough", "FP32", (-1, classes) if classes else (-1,))]
    return to_onnx(writer.fragment(), inputs, signature.outputs)


def _ones(writer: Writer) -> str:
    """(1, 1, rows) ones."""
    rows = writer.op("Shape", ["rough"], {"start": 0, "end": 1})
    shape = writer.op("Concat", [writer.constant([1, 1]), rows], {"axis": 0})
    return writer.op("ConstantOfShape", [shape], {"value": tensor("", np.ones(1, np.float32))})


def _summed(series: str, weights: Array, writer: Writer) -> str:
    """Sums over the last rows, each row with its weight: (series, 1, rows)."""
    attributes = {"kernel_shape": [len(weights)], "pads": [len(weights) - 1, 0]}
    return writer.op("Conv", [series, writer.constant(weights[None, None])], attributes)


def told(model: Model, result: Model, valid: Dataset, task: Task) -> str:
    """What smoothing did to the validation rows, in words."""
    if not valid.rows or valid.target is None:
        return ""
    from modelmill.metrics.score import score
    from modelmill.runtime.calls import answers
    from modelmill.runtime.session import BATCH_ROWS, Session

    name = task.metrics[0]
    both = [answers(Session(one.body.value), valid, BATCH_ROWS) for one in (model, result)]
    before, after = (score([name], found, valid.target, model.signature.classes)[name] for found in both)
    return f"{name} on validation rows {before:.4f} becomes {after:.4f}"
