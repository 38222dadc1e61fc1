"""The constant weights of Conv, Gemm and MatMul nodes: as arrays, with the axis of their output channels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.contracts import Array


class Weight(NamedTuple):
    """A weight: its initializer's name, its numbers, and the axis of its output channels."""

    name: str
    value: Array
    axis: int

    @property
    def rows(self) -> Array:
        """A row of numbers for every channel, (channels, numbers)."""
        return np.moveaxis(self.value, self.axis, 0).reshape(self.value.shape[self.axis], -1)

    def snapped(self, steps: Array, high: int) -> Array:
        """The weight on whole multiples of the steps, one for all or one a channel, up to `high` of them."""
        step = steps.reshape(-1, 1)
        return self.shaped(np.clip(np.round(self.rows / step), -high, high) * step)

    def shaped(self, rows: Array) -> Array:
        """Rows as `rows` gives them, in the shape of the weight."""
        moved = np.moveaxis(self.value, self.axis, 0).shape
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, self.axis))


def weights(model: Any, nodes: list[str]) -> dict[str, Weight]:
    """The weights of those nodes, by the name of the node."""
    from onnx import numpy_helper

    known = constants(model)
    found = {}
    for node in model.graph.node:
        if node.name in nodes:
            value = np.asarray(numpy_helper.to_array(known[node.input[1]]), np.float32)
            found[node.name] = Weight(node.input[1], value, _axis(node, value))
    return found


def _axis(node: Any, value: Array) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return value.ndim - 1
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if turned else 1


def replace(model: Any, name: str, value: Array) -> None:
    """Give an initializer other numbers."""
    from onnx import numpy_helper

    tensor = constants(model)[name]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
