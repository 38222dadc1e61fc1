"""Makes a quantized graph smaller without changing what it computes, but for outputs that stay floats."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, product
from string import ascii_lowercase
from typing import Any

from modelmill.compress.quantize.initializers import constants

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def tidy(model: Any) -> bytes:
    """The bytes of the model: last sums unrounded, needless zero points and twins gone, names short."""
    _free_outputs(model)
    _drop_zero_points(model)
    _merge_twins(model)
    _drop_unused(model)
    _shorten(model)
    del model.metadata_props[:]
    del model.graph.value_info[:]
    from modelmill.graph.clean import strip

    return strip(model.SerializeToString(deterministic=True))


def _free_outputs(model: Any) -> None:
    """Leave the sums of a Gemm or MatMul as they are where only float operations read them.

    Rounding logits to 256 steps costs quality and two nodes, and gains nothing.
    """
    nodes = list(model.graph.node)
    makers = {name: node for node in nodes for name in node.output}
    readers = _readers(nodes)
    for last in nodes:
        if last.op_type != DEQUANTIZE or last.input[0] not in makers:
            continue
        first = makers[last.input[0]]
        source = makers.get(first.input[0]) if first.op_type == QUANTIZE else None
        if source is None or source.op_type not in ("Gemm", "MatMul") or len(readers.get(first.output[0], [])) > 1:
            continue
        if not any(_works_on_integers(reader, last.output[0]) for reader in readers.get(last.output[0], [])):
            _replace(model, last.output[0], first.input[0])
            model.graph.node.remove(first)
            model.graph.node.remove(last)


def _works_on_integers(node: Any, value: str) -> bool:
    return node.op_type in {"Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool"} and value in node.input


def _readers(nodes: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _replace(model: Any, old: str, new: str) -> None:
    outputs = {output.name for output in model.graph.output}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
        if old in outputs:
            for place, name in enumerate(node.output):
                if name == new:
                    node.output[place] = old


def _drop_zero_points(model: Any) -> None:
    """A constant's zero point of all zeros is what DequantizeLinear takes where there is none."""
    from onnx import numpy_helper

    known = constants(model)
    for node in model.graph.node:
        if node.op_type == DEQUANTIZE and node.input[0] in known and len(node.input) == 3:
            zero = known.get(node.input[2])
            if zero is not None and zero.data_type == 6 and not numpy_helper.to_array(zero).any():
                del node.input[2]


def _merge_twins(model: Any) -> None:
    """One initializer where several hold the same."""
    first: dict[tuple[Any, ...], str] = {}
    for tensor in list(model.graph.initializer):
        content = tensor.SerializeToString(deterministic=True).replace(tensor.name.encode(), b"", 1)
        key = (tensor.data_type, tuple(tensor.dims), content)
        if key in first:
            _replace(model, tensor.name, first[key])
            model.graph.initializer.remove(tensor)
        else:
            first[key] = tensor.name


def _drop_unused(model: Any) -> None:
    read = {name for node in model.graph.node for name in node.input}
    for tensor in list(model.graph.initializer):
        if tensor.name not in read:
            model.graph.initializer.remove(tensor)


def _shorten(model: Any) -> None:
    """Give every inner value a short name, and nodes none."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    short: dict[str, str] = {"": ""} | {name: name for name in kept}
    fresh = (name for name in _names() if name not in kept)
    for tensor in model.graph.initializer:
        short[tensor.name] = next(fresh)
        tensor.name = short[tensor.name]
    for node in model.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name not in short:
                    short[name] = next(fresh)
                names[place] = short[name]


def _names() -> Iterator[str]:
    for length in count(1):
        for letters in product(ascii_lowercase, repeat=length):
            yield "".join(letters)
