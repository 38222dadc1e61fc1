"""Weights of Gemm and MatMul as 4- or 8-bit integers with a scale for every block of inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.stored import FLOAT, INT4, UINT4, packed
from modelmill.compress.quantize.tidy import DEQUANTIZE, QUANTIZE
from modelmill.compress.quantize.weights import weights
from modelmill.contracts import Array

SHARES = np.linspace(0.7, 1.0, 13)
"""Ends of a block's grid that are tried, in units of its largest weight, or of its range."""


FUSING = frozenset({"Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSigmoid"})
"""Activations that onnxruntime fuses with a Gemm."""


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
    return Blocks(codes.astype(np.int64), found.scales, found.zeros.astype(np.int64))


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
    21 or later. made: blocks of nodes that were worked out before.
    """
    from onnx import helper, numpy_helper

    given, ready, placed = weights(model, list(nodes)), made or {}, []
    for node in model.graph.node:
        if node.name not in given:
            placed.append(node)
            continue
        weight = given[node.name]
        matrix = weight.value.T if weight.axis == 0 else weight.value
        codes, scales, zeros = ready.get(node.name) or blocked(matrix, bits, block, symmetric)
        name = f"{weight.name}_{node.name}"
        tensors = [_tensor(f"{name}_codes", codes, bits, symmetric), numpy_helper.from_array(scales, f"{name}_scale")]
        if not symmetric:
            tensors.append(_tensor(f"{name}_zero", zeros, bits, symmetric))
        model.graph.initializer.extend(tensors)
        names = [tensor.name for tensor in tensors]
        placed.append(helper.make_node(DEQUANTIZE, names, [name], f"{node.name}_weight", axis=0, block_size=block))
        placed += _product(node, name)
    del model.graph.node[:]
    model.graph.node.extend(placed)
    _guard(model)
    read = {name for node in model.graph.node for name in node.input}
    for weight in given.values():
        if weight.name not in read and weight.name in (known := constants(model)):
            model.graph.initializer.remove(known[weight.name])


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


def _guard(model: Any) -> None:
    """Subtract a bias before an activation, with its sign turned, instead of adding it.

    onnxruntime would make one FusedGemm of MatMul, Add and activation, before it looks for packed weights, and that
    computes in floats.
    """
    from onnx import numpy_helper

    known = constants(model)
    packed_products = {name for node in model.graph.node if node.name.endswith("_blocks") for name in node.output}
    activated = {name for node in model.graph.node if node.op_type in FUSING for name in node.input}
    for node in model.graph.node:
        if node.op_type != "Add" or node.output[0] not in activated or not packed_products.intersection(node.input):
            continue
        product, bias = node.input if node.input[0] in packed_products else reversed(node.input)
        if bias in known and known[bias].data_type == FLOAT:
            turned = numpy_helper.from_array(-numpy_helper.to_array(known[bias]), f"{bias}_{node.name}_turned")
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


def _tensor(name: str, codes: Array, bits: int, symmetric: bool) -> Any:
    from onnx import numpy_helper

    if bits == 4:
        return packed(name, codes, INT4 if symmetric else UINT4)
    return numpy_helper.from_array(codes.astype(np.int8 if symmetric else np.uint8), name)


def matrices(model: Any, nodes: Sequence[str]) -> list[str]:
    """Those of the nodes whose weight is a plain matrix, read by a MatMul or by a Gemm that is no more than that."""
    given = weights(model, list(nodes))
    plain = {node.name for node in model.graph.node if node.op_type == "MatMul" or _is_plain(node)}
    return [name for name in nodes if name in plain and given[name].value.ndim == 2]


def _is_plain(node: Any) -> bool:
    if node.op_type != "Gemm":
        return False
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return not turned and all(attribute.f == 1 for attribute in node.attribute if attribute.name in ("alpha", "beta"))
