"""Takes batch norms into the layer before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.contracts import Array
from modelmill.graph.scopes import graphs, read
from modelmill.graph.shapes import shapes

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


def fuse(model: Any) -> int:
    """Fuse in place the batch norms that follow Conv, Gemm and MatMul with constant weights; how many."""
    if not any(node.op_type == "BatchNormalization" for graph in graphs(model) for node in graph.node):
        return 0
    return sum(_fuse(graph, model) for graph in graphs(model))


def _fuse(graph: Any, model: Any) -> int:
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    makers, used, ranks = {name: node for node in graph.node for name in node.output}, read(model), shapes(model)
    nodes = []
    for node in graph.node:
        layer = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if layer is None or layer.op_type not in LAYERS or not _still(node) or used[node.input[0]] > 1:
            nodes.append(node)
            continue
        given = [*node.input[1:5], *layer.input[1:]]
        shape = ranks.get(node.input[0])
        flat = layer.op_type == "Conv" or (shape is not None and shape.rank == 2)
        if not flat or not all(name in known and known[name].data_type == 1 for name in given):
            nodes.append(node)
            continue
        _take_in(layer, node, model, known)
    gone = len(graph.node) - len(nodes)
    if gone:
        del graph.node[:]
        graph.node.extend(nodes)
    return gone


def _still(norm: Any) -> bool:
    """Whether a norm is one of evaluation."""
    training = any(attribute.name == "training_mode" and attribute.i for attribute in norm.attribute)
    return not training and sum(bool(name) for name in norm.output) == 1


def _take_in(layer: Any, norm: Any, model: Any, known: Mapping[str, Any]) -> None:
    """Give the layer a weight and a bias that do what the norm did; a MatMul becomes a Gemm."""
    from onnx import numpy_helper

    scale, shift, mean, variance = (numpy_helper.to_array(known[name]).astype(np.float64) for name in norm.input[1:5])
    epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
    factor = scale / np.sqrt(variance + epsilon)
    settings = {attribute.name: attribute for attribute in layer.attribute}
    rows = layer.op_type == "Conv" or ("transB" in settings and settings["transB"].i == 1)
    weight = numpy_helper.to_array(known[layer.input[1]])
    shaped = factor.reshape(-1, *[1] * (weight.ndim - 1)) if rows else factor
    given = numpy_helper.to_array(known[layer.input[2]]).reshape(-1) if len(layer.input) > 2 else np.zeros(1)
    beta = settings["beta"].f if "beta" in settings else 1.0
    bias = (given.astype(np.float64) * beta - mean) * factor + shift
    made = {"weight": weight * shaped, "bias": np.broadcast_to(bias, factor.shape)}
    names = [f"{norm.output[0]}_{part}" for part in made]
    model.graph.initializer.extend(_tensor(name, value) for name, value in zip(names, made.values(), strict=True))
    layer.op_type = "Gemm" if layer.op_type == "MatMul" else layer.op_type
    layer.input[:] = [layer.input[0], *names]
    layer.output[0] = norm.output[0]
    if "beta" in settings:
        settings["beta"].f = 1.0


def _tensor(name: str, value: Array) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)
