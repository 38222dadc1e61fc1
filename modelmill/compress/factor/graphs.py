"""Linear maps of a graph as two thinner ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelmill.compress.quantize.graphs import heavy
from modelmill.compress.quantize.matrices import matrices
from modelmill.compress.quantize.weights import weights
from modelmill.contracts import Array
from modelmill.graph.scopes import graphs, nodes

Rank = Callable[[Array, tuple[int, int]], int]
"""How many singular values are kept, of those of a matrix of that shape, from the largest."""


LARGE = 1024
"""Rows of a matrix beyond which single precision is enough."""


def linear(model: Any, smallest: int = 1) -> list[str]:
    """The nodes that are linear maps of every row or pixel by itself: MatMul, plain Gemm and 1x1 Conv."""
    found = heavy(model, frozenset({"Conv", "Gemm", "MatMul"}), smallest, inner=True)
    given = weights(model, found)
    by_name = {node.name: node for node in nodes(model)}
    pixels = {name for name in found if by_name[name].op_type == "Conv" and _is_pixel(by_name[name], given[name].value)}
    flat = set(matrices(model, found))
    return [name for name in found if name in flat | pixels]


def _is_pixel(node: Any, weight: Array) -> bool:
    settings = {attribute.name: attribute for attribute in node.attribute}
    if any(size != 1 for size in weight.shape[2:]) or ("group" in settings and settings["group"].i != 1):
        return False
    return "pads" not in settings or not any(settings["pads"].ints)


def factored(model: Any, chosen: list[str], rank: Rank) -> list[str]:
    """Factor those nodes, in place, where that saves weights; what was done, node by node."""
    from onnx import numpy_helper

    given, said, made = weights(model, chosen), list[str](), dict[str, bool]()
    for graph in graphs(model):
        placed: list[Any] = []
        for node in graph.node:
            if node.name not in given:
                placed.append(node)
                continue
            weight = given[node.name]
            name = f"{weight.name}_{weight.axis}"
            if name not in made:
                parts = _halves(weight.rows, rank)
                made[name] = parts is not None
                if parts is not None:
                    said.append(parts[2])
                    shaped = _shaped(parts[0], parts[1], weight.value.ndim)
                    for part, value in zip(("first", "last"), shaped, strict=True):
                        model.graph.initializer.append(numpy_helper.from_array(value, f"{name}_{part}"))
            placed += _two(node, name) if made[name] else [node]
        del graph.node[:]
        graph.node.extend(placed)
    return said


def _halves(rows: Array, rank: Rank) -> tuple[Array, Array, str] | None:
    """The factors of a matrix (outputs, inputs) and what there is to say of them; None where they save nothing."""
    outputs, inputs = rows.shape
    squares, basis = _basis(rows if outputs <= inputs else rows.T)
    count = rank(np.sqrt(squares), rows.shape)
    if not 1 <= count * (outputs + inputs) < outputs * inputs:
        return None
    lost = squares[count:].sum() / max(squares.sum(), 1e-300)
    said = f"{outputs}x{inputs} to rank {count} ({lost:.1%} of its squares lost)"
    kept = np.ascontiguousarray(basis[:, :count], np.float32)
    return (kept.T @ rows, kept, said) if outputs <= inputs else (kept.T, rows @ kept, said)


def _basis(rows: Array) -> tuple[Array, Array]:
    """The squares of the singular values of a matrix, from the largest, and its left singular vectors.

    From the product of the matrix with itself: a third of the memory of a decomposition of the matrix.
    """
    from scipy.linalg import eigh

    exact = rows.astype(np.float64) if len(rows) <= LARGE else rows
    squares, vectors = eigh(exact @ exact.T, overwrite_a=True, check_finite=False, driver="evr")
    return np.maximum(squares[::-1].astype(np.float64), 0), vectors[:, ::-1]


def _shaped(first: Array, last: Array, axes: int) -> tuple[Array, Array]:
    """The factors as a Conv reads them, or turned, as a MatMul does."""
    if axes == 2:
        return np.ascontiguousarray(first.T), np.ascontiguousarray(last.T)
    ones = (1,) * (axes - 2)
    return first.reshape(*first.shape, *ones), last.reshape(*last.shape, *ones)


def _two(node: Any, name: str) -> list[Any]:
    """The nodes that take the place of one; the first has its stride, the last its bias."""
    from onnx import helper

    between, bias = f"{node.output[0]}_thin", list(node.input[2:])
    given = [node.input[0], f"{name}_first"], [between, f"{name}_last", *bias]
    if node.op_type != "Conv":
        kind = "Gemm" if any(bias) else "MatMul"
        return [helper.make_node("MatMul", given[0], [between]), helper.make_node(kind, given[1], node.output)]
    strides = {a.name: list(a.ints) for a in node.attribute if a.name == "strides"}
    return [helper.make_node("Conv", given[0], [between], **strides), helper.make_node("Conv", given[1], node.output)]
