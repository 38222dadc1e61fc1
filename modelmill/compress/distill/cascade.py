"""Joins a cheap and a large model in one graph: the large one runs on the rows of which the cheap one is not sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.compose import add_prefix

from modelmill.compress.joining import alike, checked, followed, needed, opsets
from modelmill.contracts import Task
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.graph.clean import load
from modelmill.graph.emit import emit
from modelmill.graph.export import FEATURES
from modelmill.graph.scopes import reads
from modelmill.model import Model
from modelmill.signature import Field, Signature

WHERE = "compress.distill.filter"
GATE = ("gate_says", "unsure", "any_unsure")
"""What the gate gives: probabilities, which rows it is not sure of, and whether there are any."""


def cascade(gate: Model, model: Model, threshold: float, task: Task) -> bytes:
    """One graph of both models: a row is answered by the gate where its greatest probability is `threshold` or more.

    Raises ModelError where the two files cannot stand in one.
    """
    signature = model.signature
    parts = (_gate(gate, threshold), _decoding(signature, task), model.body.value)
    first, last, large = alike(map(load, parts))
    large = add_prefix(large, "l.")
    names = [value.name for value in first.graph.output]
    branches = {"then_branch": _large(large, names, signature.inputs), "else_branch": _alone(names[0])}
    first.graph.node.append(helper.make_node("If", [names[2]], ["answers"], **branches))
    tail = add_prefix(last, "d.", rename_inputs=False, rename_outputs=False)
    followed(first, tail)
    opsets(first, [large, tail], WHERE)
    return checked(first, WHERE)


def _gate(gate: Model, threshold: float) -> bytes:
    """The gate up to its probabilities, and which rows they leave open."""
    writer = Writer(gate.part.prepare)
    raw, form = emit(gate.body, FEATURES, writer, gate.signature.classes)
    said = writer.op("Softmax", [raw], {"axis": -1}) if form == "logits" else raw
    surest = writer.op("ReduceMax", [said, writer.constant([1])], {"keepdims": 0})
    unsure = writer.op("Less", [surest, writer.constant(np.float32(threshold))])
    count = writer.op("ReduceSum", [writer.op("Cast", [unsure], {"to": 7}), writer.constant([0])], {"keepdims": 0})
    found = (said, unsure, writer.op("Greater", [count, writer.constant(0)]))
    for value, name in zip(found, GATE, strict=True):
        writer.rename(value, name)
    classes = len(gate.signature.classes)
    outputs = [Field(GATE[0], "FP32", (-1, classes)), Field(GATE[1], "BOOL"), Field(GATE[2], "BOOL", ())]
    return to_onnx(writer.fragment(), gate.signature.inputs, outputs)


def _decoding(signature: Signature, task: Task) -> bytes:
    """From the probabilities of both to the named outputs."""
    writer = Writer(taken=("answers",))
    task.decode("answers", "probabilities", signature, writer)
    inputs = [Field("answers", "FP32", (-1, len(signature.classes)))]
    return to_onnx(writer.fragment(), inputs, signature.outputs)


def _alone(gate_says: str) -> Any:
    """The branch in which the gate has answered every row."""
    out = helper.make_tensor_value_info("g.answers", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node("Identity", [gate_says], ["g.answers"])], "alone", [], [out])


def _large(large: Any, gate: Sequence[str], fields: Sequence[Field]) -> Any:
    """The branch in which the large model answers the rows that are left open, among those of the gate.

    It is given these alone, or all rows where it takes several and no other number.
    """
    graph, (said, unsure, _) = large.graph, gate
    weights = {tensor.name for tensor in graph.initializer}
    nodes = needed(graph.node, ["l.probabilities"])
    read = {name for node in nodes for name in reads(node)}
    given = {value.name for value in graph.input if value.name in read} - weights
    whole = any(field.rows > 1 for field in fields)
    before = [
        _cut(field.name, f"l.{field.name}", unsure, None if whole else field.axis)
        for field in fields
        if f"l.{field.name}" in given
    ]
    after = [
        helper.make_node("NonZero", [unsure], ["o.places"]),
        helper.make_node("Transpose", ["o.places"], ["o.rows"]),
        _cut("l.probabilities", "o.open", unsure, 0 if whole else None),
        helper.make_node("ScatterND", [said, "o.rows", "o.open"], ["o.answers"]),
    ]
    out = helper.make_tensor_value_info("o.answers", TensorProto.FLOAT, None)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    return helper.make_graph([*before, *nodes, *after], "large", [], [out], kept)


def _cut(name: str, gives: str, unsure: str, axis: int | None) -> Any:
    """The rows of a value that are left open, or all of it where it has none or keeps them."""
    if axis is None:
        return helper.make_node("Identity", [name], [gives])
    return helper.make_node("Compress", [name, unsure], [gives], axis=axis)
