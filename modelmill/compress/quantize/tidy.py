"""Makes a quantized graph smaller without changing what it computes, but for outputs that stay floats."""

from __future__ import annotations

from typing import Any

from modelmill.compress.convert.cleaning import settle
from modelmill.compress.quantize.initializers import constants
from modelmill.graph.clean import stripped
from modelmill.graph.scopes import rename

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def tidy(model: Any) -> bytes:
    """The bytes of the model: last sums unrounded, needless zero points and twins gone, names short."""
    tidied(model)
    return stripped(model)


def tidied(model: Any) -> None:
    """The same, in place."""
    _free_outputs(model)
    _drop_zero_points(model)
    settle(model)


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
            kept, free = last.output[0], first.input[0]
            model.graph.node.remove(first)
            model.graph.node.remove(last)
            _replace(model, kept, free)


def _works_on_integers(node: Any, value: str) -> bool:
    return node.op_type in {"Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool"} and value in node.input


def _readers(nodes: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _replace(model: Any, old: str, new: str) -> None:
    """Let one value stand for another; where the other is an output, under its name."""
    if old not in {output.name for output in model.graph.output}:
        rename(model, {old: new})
        return
    rename(model, {new: old})
    for node in model.graph.node:
        node.output[:] = [old if name == new else name for name in node.output]


def _drop_zero_points(model: Any) -> None:
    """A constant's zero point of all zeros is what DequantizeLinear takes where there is none."""
    from onnx import numpy_helper

    known = constants(model)
    for node in model.graph.node:
        if node.op_type == DEQUANTIZE and node.input[0] in known and len(node.input) == 3:
            zero = known.get(node.input[2])
            if zero is not None and zero.data_type == 6 and not numpy_helper.to_array(zero).any():
                del node.input[2]
