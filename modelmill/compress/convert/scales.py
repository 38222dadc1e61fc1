"""Takes factors into the layer behind them, and reshapes out of the way of a Flatten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.graph.scopes import graphs, read
from modelmill.graph.shapes import Shape, shapes

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
LAID = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity"})
"""What lays numbers out anew: one factor for all of them may come after it as well as before."""
FLOAT = 1


def absorb(model: Any) -> int:
    """Multiply, in place, the constant weights of layers by the one number that their inputs are multiplied by before.

    How many multiplications went. What is subtracted stays: sums of large numbers would lose what these differ by.
    """
    known, used = {tensor.name: tensor for tensor in model.graph.initializer}, read(model)
    if not any(node.op_type in ("Mul", "Div") for graph in graphs(model) for node in graph.node):
        return 0
    told, gone = shapes(model), 0
    for graph in graphs(model):
        makers = {name: node for node in graph.node for name in node.output}
        outputs = {value.name for value in graph.output}
        for node in list(graph.node):
            found = _before(node, makers, known, used, outputs) if _takes(node, known, used) else None
            if found is None or not _same_axes(found[1], found[2], known, told):
                continue
            reader, scale, source, factor = found
            _multiply(known[node.input[1]], factor)
            reader.input[:] = [source if name == scale.output[0] else name for name in reader.input]
            graph.node.remove(scale)
            gone += 1
    return gone


def _takes(node: Any, known: Mapping[str, Any], used: Mapping[str, int]) -> bool:
    """Whether a node is a layer whose weight is a constant of its own."""
    if node.op_type not in LAYERS or node.domain not in ("", "ai.onnx"):
        return False
    weight = known.get(node.input[1])
    return weight is not None and weight.data_type == FLOAT and used[weight.name] == 1 and node.input[0] not in known


def _before(
    layer: Any, makers: Mapping[str, Any], known: Mapping[str, Any], used: Mapping[str, int], outputs: set[str]
) -> tuple[Any, Any, str, float] | None:
    """Of the factor before a layer: who reads it, its node, what it multiplies, and the number; None without one."""
    reader, name = layer, layer.input[0]
    while used.get(name) == 1 and name not in outputs and name in makers:
        node = makers[name]
        if node.op_type in ("Mul", "Div"):
            return _scale(reader, node, known)
        if node.op_type not in LAID:
            return None
        reader, name = node, node.input[0]
    return None


def _scale(reader: Any, node: Any, known: Mapping[str, Any]) -> tuple[Any, Any, str, float] | None:
    from onnx import numpy_helper

    places = [place for place, name in enumerate(node.input) if name in known]
    if len(places) != 1 or (node.op_type == "Div" and places != [1]):
        return None
    constant = known[node.input[places[0]]]
    if constant.data_type != FLOAT or int(np.prod(constant.dims)) != 1:
        return None
    number = float(numpy_helper.to_array(constant).reshape(()))
    factor = number if node.op_type == "Mul" else 1 / number if number else 0.0
    return (reader, node, node.input[1 - places[0]], factor) if np.isfinite(factor) and factor else None


def _same_axes(scale: Any, source: str, known: Mapping[str, Any], told: Mapping[str, Shape]) -> bool:
    """Whether a factor adds no axes to what it multiplies."""
    axes = max(len(known[name].dims) for name in scale.input if name in known)
    rank = told[source].rank if source in told else None
    return axes <= 1 or (rank is not None and axes <= rank)


def _multiply(weight: Any, factor: float) -> None:
    from onnx import numpy_helper

    value = np.asarray(numpy_helper.to_array(weight) * np.float32(factor))
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))


def flatten(model: Any) -> int:
    """Let a Flatten read, in place, what was reshaped before it, where it comes to the same; how many do."""
    known, told = {tensor.name: tensor for tensor in model.graph.initializer}, shapes(model)
    found = 0
    for graph in graphs(model):
        makers = {name: node for node in graph.node for name in node.output}
        for node in graph.node:
            before = makers.get(node.input[0]) if node.op_type == "Flatten" else None
            if before is None or before.op_type != "Reshape" or not _of_rows(node):
                continue
            if _keeps_rows(before, known, told):
                node.input[0] = before.input[0]
                found += 1
    return found


def _of_rows(node: Any) -> bool:
    return all(attribute.i == 1 for attribute in node.attribute if attribute.name == "axis")


def _keeps_rows(node: Any, known: Mapping[str, Any], told: Mapping[str, Shape]) -> bool:
    """Whether a Reshape leaves the rows of a value rows: (n, numbers of a row) stays what it was."""
    from onnx import numpy_helper

    before = told.get(node.input[0])
    if node.input[1] not in known or before is None or before.sizes is None or len(before.sizes) < 2:
        return False
    asked = [int(size) for size in numpy_helper.to_array(known[node.input[1]])]
    of_row = before.sizes[1:]
    return (
        len(asked) > 1
        and asked[0] in (-1, 0)
        and None not in of_row
        and min(asked[1:]) > 0
        and (int(np.prod(asked[1:])) == int(np.prod([size or 0 for size in of_row])))
    )
