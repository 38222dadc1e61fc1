"""LSTM nodes whose weights are bytes, and whose inputs and states are rounded as they come.

onnxruntime has such an operation for LSTM alone: GRU and plain recurrent nodes stay floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelmill.compress.quantize.graphs import heavy
from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.integers import rounded
from modelmill.compress.quantize.stored import FLOAT
from modelmill.graph.scopes import nodes

DOMAIN = "com.microsoft"


def recurrent(model: Any, smallest: int) -> list[str]:
    """The names of LSTM nodes whose weights, of inputs and of states, are constant floats."""
    known, wanted = constants(model), set(heavy(model, frozenset({"LSTM"}), smallest, inner=True))
    return [
        node.name
        for node in nodes(model)
        if node.name in wanted and node.input[2] in known and known[node.input[2]].data_type == FLOAT
    ]


def lowered(model: Any, names: list[str], per_channel: bool, bits: int) -> None:
    """Let those nodes compute in integers, in place."""
    from onnx import helper

    for node in nodes(model):
        if node.name in names:
            given = [*node.input, *[""] * (8 - len(node.input))]
            (weight, *of_inputs), (state, *of_states) = (_stored(model, name, per_channel, bits) for name in given[1:3])
            del node.input[:]
            node.input.extend([given[0], weight, state, *given[3:8], *of_inputs, *of_states])
            node.op_type, node.domain = "DynamicQuantizeLSTM", DOMAIN
    if names and all(used.domain != DOMAIN for used in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _stored(model: Any, name: str, per_channel: bool, bits: int) -> tuple[str, str, str]:
    """A weight (directions, gates, inputs) as codes (directions, inputs, gates): names of these, scales, zeros."""
    from onnx import numpy_helper

    made = (f"{name}_codes", f"{name}_scale", f"{name}_zero")
    if made[0] not in constants(model):
        weight = numpy_helper.to_array(constants(model)[name])
        parts = zip(*(rounded(way.T, per_channel, bits) for way in weight), strict=True)
        tensors = (numpy_helper.from_array(np.stack(each), title) for each, title in zip(parts, made, strict=True))
        model.graph.initializer.extend(tensors)
    return made
