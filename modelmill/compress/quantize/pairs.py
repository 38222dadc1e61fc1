"""Completes the pairs of QuantizeLinear and DequantizeLinear of a graph, so that onnxruntime computes in integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.tidy import DEQUANTIZE, QUANTIZE

MOVERS = frozenset({"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze"})
"""What gives numbers of the grid that it is given."""
LARGEST = 2**31 - 1


def complete(model: Any) -> None:
    """Put the pair before a mover behind it as well, and biases on the grid of the sums that they are added to."""
    _move(model)
    _place_biases(model)


def _move(model: Any) -> None:
    makers = {name: node for node in model.graph.node for name in node.output}
    outputs = {value.name for value in model.graph.output}
    nodes = []
    for node in list(model.graph.node):
        nodes.append(node)
        source = makers.get(node.input[0]) if node.op_type in MOVERS else None
        if source is None or source.op_type != DEQUANTIZE or source.input[0] not in makers:
            continue
        name = node.output[0]
        if name in outputs:
            continue
        node.output[0] = f"{name}_moved"
        nodes += _pair(node.output[0], name, source.input[1:])
        makers[name] = nodes[-1]
        makers[nodes[-2].output[0]] = nodes[-2]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _pair(value: str, result: str, grid: list[str]) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node(QUANTIZE, [value, *grid], [f"{value}_codes"]),
        helper.make_node(DEQUANTIZE, [f"{value}_codes", *grid], [result]),
    ]


def _place_biases(model: Any) -> None:
    """Without it onnxruntime computes a Gemm that gives floats in floats."""
    from onnx import helper, numpy_helper

    known = constants(model)
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in known.items() if tensor.data_type in (1, 2, 3)}
    makers = {name: node for node in model.graph.node if node.op_type == DEQUANTIZE for name in node.output}
    nodes = []
    for node in model.graph.node:
        given = [makers.get(name) for name in node.input[:2]]
        bias = arrays.get(node.input[2]) if node.op_type in ("Conv", "Gemm") and len(node.input) == 3 else None
        if bias is not None and all(given):
            scales = [arrays[maker.input[1]] for maker in given if maker is not None]
            scale = np.asarray(scales[0] * scales[1], np.float32)
            codes = np.round(bias / scale.astype(np.float64))
            if np.abs(codes).max() < LARGEST:
                name = f"{node.input[2]}_{node.output[0]}"
                model.graph.initializer.append(numpy_helper.from_array(codes.astype(np.int32), f"{name}_codes"))
                model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
                axis = {"axis": 0} if scale.ndim else {}
                nodes.append(helper.make_node(DEQUANTIZE, [f"{name}_codes", f"{name}_scale"], [name], **axis))
                node.input[2] = name
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
