"""What a graph of 8-bit integers answers on a processor without 8-bit dot products (x86 before VNNI).

Such a processor multiplies unsigned by signed bytes, adds two neighbouring products in 16 bits, and cuts the sum where
it does not fit: 255 * 127 * 2 is 64770, and 32767 is the most. onnxruntime uses that instruction, so that the same file
answers otherwise there. Activations are taken as onnxruntime lays them out: the channels of one pixel lie together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelmill.compress.quantize.graphs import HEAVY, load
from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.patches import patches
from modelmill.compress.quantize.tidy import DEQUANTIZE
from modelmill.contracts import Array
from modelmill.graph.scopes import nodes
from modelmill.runtime.session import Session

UNTOLD = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)
"""Nodes that compute on bytes, and are not simulated where they are none of the sites."""

LEAST, MOST = -(2**15), 2**15 - 1


@dataclass(frozen=True, eq=False)
class Site:
    """A node that computes on bytes: where its codes come from, and the constants of its two sides."""

    node: Any
    codes: list[str]
    """The name of its codes and, where the zero point is no constant, that of it."""
    scale: float
    zero: int
    weight: Array
    """Codes, (outputs, inputs, ...)"""
    scales: Array
    """One, or one an output."""
    bias: Array


def answers(graph: bytes, columns: Mapping[str, Array], cut: bool = True) -> dict[str, Array]:
    """The outputs of a graph for raw columns, with every sum of two products cut to 16 bits, or without `cut` exact.

    Whatever this machine can do. Simulated where a Conv, Gemm or MatMul reads a pair of unsigned bytes and a constant
    of signed bytes, and where a MatMulInteger does; all else, and depthwise convolutions, runs as it is.
    """
    model = load(graph)
    outputs = [value.name for value in model.graph.output]
    made: dict[str, Array] = {}
    for site in sites(model):
        made[site.node.output[0]] = computed(site, _run(model, columns, made, site.codes), cut)
    return _run(model, columns, made, outputs)


def limits(graph: bytes) -> tuple[int, int, int]:
    """How many nodes compute on bytes, in how many of them a sum may be cut, and in how many nobody can tell.

    Of the first and the second whatever comes in. The last are those that are not simulated, within branches and loops
    for some; they are among the first.
    """
    model = load(graph)
    found = sites(model)
    known = {site.node.output[0] for site in found}
    others = [node for node in nodes(model) if node.output and node.output[0] not in known]
    pairs = {name for node in nodes(model) if node.op_type == DEQUANTIZE for name in node.output}
    narrow = sum(_bits(node) == 4 for node in others)  # 255 * 15 * 2 is less than 32767
    untold = sum(
        node.op_type in UNTOLD or _bits(node) > 4 or (node.op_type in HEAVY and {*node.input[:2]} <= pairs)
        for node in others
    )
    return len(found) + narrow + untold, sum(_may_cut(site.weight) for site in found), untold


def _bits(node: Any) -> int:
    """The bits of a MatMulNBits that rounds its inputs to bytes; 0 for any other node."""
    if node.op_type != "MatMulNBits":
        return 0
    said = {attribute.name: attribute.i for attribute in node.attribute}
    return int(said.get("bits", 4)) if said.get("accuracy_level") == 4 else 0


def _may_cut(weight: Array) -> bool:
    """Whether two neighbouring weights, (outputs, inputs, ...), are large enough for that."""
    rows = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    first, second = rows[:, 0::2], rows[:, 1::2]
    highest = np.maximum(np.maximum(first, second), np.maximum(first + second, 0)).max(initial=0)
    lowest = np.minimum(np.minimum(first, second), np.minimum(first + second, 0)).min(initial=0)
    return bool(255 * highest > MOST or 255 * lowest < LEAST)


def sites(model: Any) -> list[Site]:
    """The nodes whose sums may be cut, in the order in which they run."""
    from onnx import numpy_helper

    known = {name: numpy_helper.to_array(tensor) for name, tensor in constants(model).items()}
    pairs = {name: node for node in model.graph.node if node.op_type == DEQUANTIZE for name in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type == "MatMulInteger" and known.get(node.input[1], np.zeros(0)).dtype == np.int8:
            found.append(_integer(node, known[node.input[1]]))
        if node.op_type not in ("Conv", "Gemm", "MatMul") or not {*node.input[:2]} <= pairs.keys():
            continue
        left, right = (pairs[name] for name in node.input[:2])
        weight = known.get(right.input[0])
        zero = known.get(left.input[2]) if len(left.input) > 2 else None
        if weight is None or weight.dtype != np.int8 or zero is None or zero.dtype != np.uint8 or weight.ndim < 2:
            continue
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        rows = weight if node.op_type == "Conv" or turned else np.moveaxis(weight, -1, 0)
        bias = _bias(node, known, pairs)
        scale, scales = float(known[left.input[1]]), np.atleast_1d(known[right.input[1]])
        found.append(Site(node, [left.input[0]], scale, int(zero), rows.astype(np.int64), scales, bias))
    return found


def _integer(node: Any, weight: Array) -> Site:
    """A product whose scales are applied after it."""
    rows, one = np.moveaxis(weight, -1, 0).astype(np.int64), np.ones(1)
    return Site(node, [name for name in node.input[0:3:2] if name], 1.0, 0, rows, one, np.zeros(1))


def _bias(node: Any, known: Mapping[str, Array], pairs: Mapping[str, Any]) -> Array:
    if len(node.input) < 3:
        return np.zeros(1, np.float32)
    if node.input[2] in known:
        return known[node.input[2]]
    codes, scale = (known[name] for name in pairs[node.input[2]].input[:2])
    return np.asarray(codes * scale, np.float32)


def computed(site: Site, given: Mapping[str, Array], cut: bool) -> Array:
    """The output of a node for the codes of its input: floats, or the sums of a MatMulInteger."""
    codes = given[site.codes[0]]
    zero = int(given[site.codes[1]]) if len(site.codes) > 1 else site.zero
    if site.node.op_type != "Conv":
        rows = codes.reshape(-1, codes.shape[-1]).astype(np.int64)
        total = products(rows, site.weight.T, cut) - zero * site.weight.sum(1)
        shape = (*codes.shape[:-1], len(site.weight))
        if site.node.op_type == "MatMulInteger":
            return np.asarray(total, np.int32).reshape(shape)
        return np.asarray(total * (site.scale * site.scales) + site.bias, np.float32).reshape(shape)
    total, shape = _convolved(site, codes, cut)
    values = total * (site.scale * site.scales) + site.bias
    return np.asarray(np.moveaxis(values, 2, 1), np.float32).reshape(len(codes), -1, *shape)


def _convolved(site: Site, codes: Array, cut: bool) -> tuple[Array, tuple[int, ...]]:
    """The sums of a convolution, (rows, places, outputs), and the shape of the places."""
    # what lies around the image is the zero point
    centred = codes.astype(np.float32) - site.zero
    found, shape = patches(site.node, centred, site.weight.shape[2:])
    rows, places, channels, _ = found.shape
    groups = channels // site.weight.shape[1]
    outputs = len(site.weight) // groups
    each = []
    for group in range(groups):
        width = site.weight.shape[1]
        part = found[:, :, group * width : (group + 1) * width].swapaxes(2, 3).reshape(rows * places, -1)
        weight = site.weight[group * outputs : (group + 1) * outputs].reshape(outputs, width, -1)
        matrix = weight.swapaxes(1, 2).reshape(outputs, -1).T
        if width == outputs == 1:
            each.append(part.astype(np.int64) @ matrix)
        else:
            whole = (part + site.zero).astype(np.int64)
            each.append(products(whole, matrix, cut) - site.zero * matrix.sum(0))
    return np.concatenate(each, axis=1).reshape(rows, places, -1), shape


def products(codes: Array, weight: Array, cut: bool = True) -> Array:
    """The product of (rows, inputs) by (inputs, outputs), with sums of two neighbouring products cut to 16 bits.

    >>> products(np.array([[255, 255, 255, 255]]), np.array([[127], [127], [127], [-127]])).tolist()
    [[32767]]
    """
    total = codes @ weight
    if not cut:
        return np.asarray(total)
    if len(weight) % 2:
        codes, weight = np.pad(codes, ((0, 0), (0, 1))), np.pad(weight, ((0, 1), (0, 0)))
    first, second = weight[0::2], weight[1::2]
    highest = 255 * np.maximum(np.maximum(first, second), np.maximum(first + second, 0)).max(1)
    lowest = 255 * np.minimum(np.minimum(first, second), np.minimum(first + second, 0)).min(1)
    for pair in np.flatnonzero((highest > MOST) | (lowest < LEAST)):
        sums = np.outer(codes[:, 2 * pair], first[pair]) + np.outer(codes[:, 2 * pair + 1], second[pair])
        total += np.clip(sums, LEAST, MOST) - sums
    return np.asarray(total)


def _run(model: Any, columns: Mapping[str, Array], made: Mapping[str, Array], outputs: list[str]) -> dict[str, Array]:
    """Those values of a graph, with others given instead of computed."""
    import onnx

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    for node in list(opened.graph.node):
        if node.output[0] in made:
            opened.graph.node.remove(node)
    for name, value in made.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        opened.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * value.ndim))
    declared = {value.name: value for value in model.graph.output}
    codes = onnx.TensorProto.UINT8
    del opened.graph.output[:]
    for name in outputs:
        opened.graph.output.append(declared.get(name) or onnx.helper.make_tensor_value_info(name, codes, None))
    return Session(opened.SerializeToString()).run({**columns, **made}, outputs)
