"""The constant weights of Conv, Gemm and MatMul nodes: as arrays, with the axis of their output channels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.contracts import Array
from modelmill.graph.scopes import nodes


class Weight(NamedTuple):
    """A weight: its initializer's name, its numbers, and the axis of its output channels."""

    name: str
    value: Array
    axis: int

    @property
    def rows(self) -> Array:
        """A row of numbers for every channel, (channels, numbers)."""
        return np.moveaxis(self.value, self.axis, 0).reshape(self.value.shape[self.axis], -1)

    def codes(self, steps: Array, high: int) -> Array:
        """The weight in whole multiples of the steps, one for all or one a channel, up to `high` of them."""
        shape = [1] * self.value.ndim
        shape[self.axis] = -1
        found = np.divide(self.value, steps.reshape(shape), dtype=np.float32)
        np.rint(found, out=found)
        return np.clip(found, -high, high, out=found).astype(np.int8)

    def shaped(self, rows: Array) -> Array:
        """Rows as `rows` gives them, in the shape of the weight."""
        moved = np.moveaxis(self.value, self.axis, 0).shape
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, self.axis))


def weights(model: Any, chosen: Sequence[str]) -> Mapping[str, Weight]:
    """The weights of those nodes, by the name of the node; one is an array only while it is looked at."""
    return _Weights(model, frozenset(chosen))


def numbers(model: Any, chosen: Sequence[str]) -> int:
    """How many numbers the weights of those nodes have."""
    known, names = constants(model), frozenset(chosen)
    return sum(math.prod(known[node.input[1]].dims) for node in nodes(model) if node.name in names)


class _Weights(Mapping[str, Weight]):
    def __init__(self, model: Any, names: frozenset[str]) -> None:
        self._nodes = {node.name: node for node in nodes(model) if node.name in names}
        self._known = constants(model)

    def __getitem__(self, name: str) -> Weight:
        from onnx import numpy_helper

        node = self._nodes[name]
        value = np.asarray(numpy_helper.to_array(self._known[node.input[1]]), np.float32)
        return Weight(node.input[1], value, _axis(node, value))

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


def _axis(node: Any, value: Array) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return value.ndim - 1
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if turned else 1
