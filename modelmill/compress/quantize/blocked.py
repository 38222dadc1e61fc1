"""Weights of Gemm and MatMul as 4- or 8-bit integers with a scale for every block of inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.matrices import matrix
from modelmill.compress.quantize.stored import FLOAT, INT4, UINT4, packed
from modelmill.compress.quantize.tidy import DEQUANTIZE, QUANTIZE
from modelmill.compress.quantize.weights import weights
from modelmill.contracts import Array
from modelmill.graph.scopes import graphs

SHARES = np.linspace(0.7, 1.0, 13)
"""Ends of a block's grid that are tried, in units of its largest weight, or of its range."""


FUSING = frozenset({"Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSigmoid"})
"""Activations that onnxruntime fuses with a Gemm."""
MOST = 250_000
"""Numbers of a weight that are rounded at once: many arrays of that size are held."""


class Blocks(NamedTuple):
    """A weight in blocks: codes (inputs, outputs), scales and zero points (blocks, outputs)."""

    codes: Array
    scales: Array
    zeros: Array

    def value(self, block: int) -> Array:
        """The weights that they stand for, (inputs, outputs)."""
        inputs = len(self.codes)
        scales, zeros = (np.repeat(part, block, 0)[:inputs] for part in (self.scales, self.zeros))
        return np.asarray((self.codes - zeros) * scales, np.float32)


def blocked(weight: Array, bits: int, block: int, symmetric: bool) -> Blocks:
    """The codes of a weight (inputs, outputs) whose squared error is the smallest of some scales for every block."""
    step = max(1, MOST // max(1, len(weight)))
    parts = [_blocked(weight[:, i : i + step], bits, block, symmetric) for i in range(0, weight.shape[1], step)]
    return Blocks(*(np.concatenate(part, 1) for part in zip(*parts, strict=True)))


def _blocked(weight: Array, bits: int, block: int, symmetric: bool) -> Blocks:
    inputs, outputs = weight.shape
    count = -(-inputs // block)
    padded = np.zeros((count * block, outputs), np.float32)
    padded[:inputs] = weight
    parts = padded.reshape(count, block, outputs)
    low = np.minimum(parts.min(1), 0)
    high = np.maximum(parts.max(1), 0)
    if symmetric:
        most = 2 ** (bits - 1) - 1
        ends, least = np.maximum(high / most, -low / (most + 1)), -most - 1
    else:
        most, least = 2**bits - 1, 0
        ends = (high - low) / most
    found: Blocks | None = None
    best = np.full((count, outputs), np.inf)
    for share in SHARES:
        scales = np.where(ends > 0, ends * share, 1.0).astype(np.float32)
        zeros = np.zeros_like(scales) if symmetric else np.clip(np.round(-low * share / scales), 0, most)
        codes = np.clip(np.round(parts / scales[:, None]) + zeros[:, None], least, most)
        errors = (((codes - zeros[:, None]) * scales[:, None] - parts) ** 2).sum(1)
        better = errors < best
        best = np.where(better, errors, best)
        made = Blocks(codes, scales, zeros)
        found = made if found is None else _chosen(better, made, found)
    assert found is not None
    codes = found.codes.reshape(-1, outputs)[:inputs]
    return Blocks(codes.astype(np.int16), found.scales, found.zeros.astype(np.int16))


def _chosen(better: Array, first: Blocks, second: Blocks) -> Blocks:
    codes = np.where(better[:, None], first.codes, second.codes)
    return Blocks(codes, np.where(better, first.scales, second.scales), np.where(better, first.zeros, second.zeros))


def place(
    model: Any,
    nodes: Sequence[str],
    bits: int,
    block: int,
    symmetric: bool,
    made: Mapping[str, Blocks] | None = None,
) -> None:
    """Store the weights of those nodes in blocks; onnxruntime makes one MatMulNBits of each.

    A Gemm becomes a MatMul with the weight turned, since only blocks of inputs are fused. The model must be of opset
    21 or later. made: blocks of nodes that were worked out before. Those of a branch or loop are expanded before it:
    onnxruntime cannot load a product within that it would fuse.
    """
    from onnx import helper

    given, ready = weights(model, list(nodes)), made or {}
    within: list[Any] = []
    for graph in graphs(model):
        outermost = graph is model.graph
        placed: list[Any] = within if outermost else []
        for node in graph.node:
            if node.name not in given:
                placed.append(node)
                continue
            weight = given[node.name]
            name = f"{weight.name}_{node.name}"
            blocks = ready.get(node.name) or blocked(matrix(weight), bits, block, symmetric)
            tensors = _tensors(name, blocks, bits, symmetric)
            model.graph.initializer.extend(tensors)
            names = [tensor.name for tensor in tensors]
            expanded = helper.make_node(DEQUANTIZE, names, [name], f"{node.name}_weight", axis=0, block_size=block)
            (placed if outermost else within).append(expanded)
            placed += _product(node, name)
        del graph.node[:]
        graph.node.extend(placed)
        _guard(graph, model)


def _product(node: Any, weight: str) -> list[Any]:
    """What stands for a Gemm or a MatMul with that weight."""
    from onnx import helper

    if node.op_type == "MatMul" or len(node.input) < 3:
        return [helper.make_node("MatMul", [node.input[0], weight], node.output, f"{node.name}_blocks")]
    product = f"{weight}_product"
    return [
        helper.make_node("MatMul", [node.input[0], weight], [product], f"{node.name}_blocks"),
        helper.make_node("Add", [product, node.input[2]], node.output, f"{node.name}_bias"),
    ]


def _guard(graph: Any, model: Any) -> None:
    """Subtract a bias before an activation, with its sign turned, instead of adding it.

    onnxruntime would make one FusedGemm of MatMul, Add and activation, before it looks for packed weights, and that
    computes in floats.
    """
    from onnx import numpy_helper

    known = constants(model)
    packed_products = {name for node in graph.node if node.name.endswith("_blocks") for name in node.output}
    activated = {name for node in graph.node if node.op_type in FUSING for name in node.input}
    for node in graph.node:
        if node.op_type != "Add" or node.output[0] not in activated or not packed_products.intersection(node.input):
            continue
        product, bias = node.input if node.input[0] in packed_products else reversed(node.input)
        if bias in known and known[bias].data_type == FLOAT:
            turned = numpy_helper.from_array(-numpy_helper.to_array(known[bias]), f"{bias}_{node.output[0]}_turned")
            model.graph.initializer.append(turned)
            node.op_type = "Sub"
            node.input[:] = [product, turned.name]


def free_inputs(model: Any) -> None:
    """Let products with packed weights read floats and no pair: with one before it, onnxruntime unpacks the weight.

    The pair stays where a convolution or a sum that computes in integers ends in it.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        weight = makers.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or not any(attribute.name == "block_size" for attribute in weight.attribute):
            continue
        last = makers.get(node.input[0])
        first = makers.get(last.input[0]) if last is not None and last.op_type == DEQUANTIZE else None
        maker = None if first is None else makers.get(first.input[0])
        if first is not None and maker is not None and maker.op_type not in ("Conv", "Add"):
            node.input[0] = first.input[0]
    outputs = {value.name for value in model.graph.output}
    for node in reversed(list(model.graph.node)):
        read = {name for other in model.graph.node for name in other.input} | outputs
        if node.op_type in (QUANTIZE, DEQUANTIZE) and not read.intersection(node.output):
            model.graph.node.remove(node)


def _tensors(name: str, blocks: Blocks, bits: int, symmetric: bool) -> list[Any]:
    """Codes, scales and, where zero is not in the middle, zero points as ONNX stores them."""
    from onnx import numpy_helper

    def stored(part: str, codes: Array) -> Any:
        if bits == 4:
            return packed(f"{name}_{part}", codes, INT4 if symmetric else UINT4)
        return numpy_helper.from_array(codes.astype(np.int8 if symmetric else np.uint8), f"{name}_{part}")

    made = [stored("codes", blocks.codes), numpy_helper.from_array(blocks.scales, f"{name}_scale")]
    return made if symmetric else [*made, stored("zero", blocks.zeros)]
