"""Products of matrices in integers whose inputs are rounded as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelmill.compress.quantize.matrices import matrix
from modelmill.compress.quantize.stored import FLOAT
from modelmill.compress.quantize.weights import weights
from modelmill.contracts import Array
from modelmill.graph.scopes import graphs


def place(model: Any, chosen: list[str], per_channel: bool, bits: int) -> None:
    """Let those nodes, MatMul or plain Gemm, compute in integers, in place; onnxruntime makes one operation of each.

    Nodes that read the same value share its rounding, and those that read the same weight its codes.
    """
    from onnx import numpy_helper

    given, stored, names = weights(model, chosen), dict[tuple[str, int], str](), set(chosen)
    for graph in graphs(model):
        made: list[Any] = []
        inputs: dict[str, str] = {}
        for node in graph.node:
            if node.name not in names:
                made.append(node)
                continue
            weight = given[node.name]
            key = (weight.name, weight.axis)
            if key not in stored:
                stored[key] = f"{weight.name}_{weight.axis}"
                parts = zip(("codes", "scale", "zero"), rounded(matrix(weight), per_channel, bits), strict=True)
                tensors = [numpy_helper.from_array(value, f"{stored[key]}_{part}") for part, value in parts]
                model.graph.initializer.extend(tensors)
            made += _product(node, stored[key], inputs)
        if inputs:
            del graph.node[:]
            graph.node.extend(made)


def rounded(weight: Array, per_channel: bool, bits: int) -> tuple[Array, Array, Array]:
    """The codes of a weight (inputs, outputs), their scale, one for all or one for each output, and their zero point.

    >>> codes, scale, zero = rounded(np.array([[1.0, -0.5], [0.0, 0.25]], np.float32), True, 8)
    >>> codes.tolist(), (scale * 127).tolist(), zero.tolist()
    ([[127, -127], [0, 64]], [1.0, 0.5], [0, 0])
    """
    high = 2 ** (bits - 1) - 1
    most = np.maximum(weight.max(0), -weight.min(0)) if per_channel else np.maximum(weight.max(), -weight.min())
    scale = np.asarray(np.where(most > 0, most, 1) / high, np.float32)
    codes = np.divide(weight, scale, dtype=np.float32)
    return np.rint(codes, out=codes).astype(np.int8), scale, np.zeros(scale.shape, np.int8)


def _product(node: Any, weight: str, inputs: dict[str, str]) -> list[Any]:
    """What stands for a node; `inputs` holds what was rounded before."""
    from onnx import helper

    value, result, made = node.input[0], node.output[0], []
    if value not in inputs:
        inputs[value] = f"{result}_given"
        parts = [f"{inputs[value]}_{part}" for part in ("codes", "scale", "zero")]
        made.append(helper.make_node("DynamicQuantizeLinear", [value], parts))
    codes, scale, zero = (f"{inputs[value]}_{part}" for part in ("codes", "scale", "zero"))
    sums, numbers, unit = (f"{result}_{part}" for part in ("sums", "numbers", "unit"))
    biased = len(node.input) > 2 and bool(node.input[2])
    product = f"{result}_product" if biased else result
    made += [
        helper.make_node("MatMulInteger", [codes, f"{weight}_codes", zero, f"{weight}_zero"], [sums]),
        helper.make_node("Cast", [sums], [numbers], to=FLOAT),
        helper.make_node("Mul", [scale, f"{weight}_scale"], [unit]),
        helper.make_node("Mul", [numbers, unit], [product]),
    ]
    return [*made, helper.make_node("Add", [product, node.input[2]], [result])] if biased else made
