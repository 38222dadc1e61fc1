"""Nodes that multiply by a constant matrix and do no more than that, but for a bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelmill.compress.quantize.weights import Weight
from modelmill.contracts import Array
from modelmill.graph.scopes import nodes


def matrices(model: Any, chosen: Sequence[str]) -> list[str]:
    """Those of the nodes, whose weights are constants, that are a MatMul or a Gemm that is no more than that."""
    fit = {node.name for node in nodes(model) if node.op_type == "MatMul" or _is_plain(node)}
    return [name for name in chosen if name in fit]


def _is_plain(node: Any) -> bool:
    if node.op_type != "Gemm" or turned(node):
        return False
    return all(attribute.f == 1 for attribute in node.attribute if attribute.name in ("alpha", "beta"))


def turned(node: Any) -> bool:
    """Whether a node reads its rows as columns, as a Gemm with transA does."""
    return any(attribute.name == "transA" and attribute.i for attribute in node.attribute)


def matrix(weight: Weight) -> Array:
    """The weight as (inputs, outputs)."""
    return weight.value.T if weight.axis == 0 else weight.value
