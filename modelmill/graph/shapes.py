"""The types and shapes of the values of an ONNX model, told without its weights: these may be large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from modelmill.graph.apart import without
from modelmill.graph.scopes import graphs


@dataclass(frozen=True)
class Shape:
    """What is known of a value: ONNX's number for its type, and its sizes; None where one is not known."""

    kind: int
    sizes: tuple[int | None, ...] | None

    @property
    def rank(self) -> int | None:
        """How many axes there are."""
        return None if self.sizes is None else len(self.sizes)

    @property
    def numbers(self) -> int | None:
        """How many numbers there are."""
        if self.sizes is None:
            return None
        known = [size for size in self.sizes if size is not None]
        return math.prod(known) if len(known) == len(self.sizes) else None


def shapes(model: Any) -> dict[str, Shape]:
    """What ONNX can tell of the values of all graphs, constants included; empty where it finds the model faulty."""
    found = {}
    for graph in graphs(inferred(model)):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.HasField("tensor_type"):
                found[value.name] = _shape(value.type.tensor_type)
        for tensor in graph.initializer:
            found[tensor.name] = Shape(tensor.data_type, tuple(tensor.dims))
    return found


def tell(model: Any) -> None:
    """Write into the model, in place, what is known of the values of its outermost graph."""
    told = inferred(model).graph.value_info
    del model.graph.value_info[:]
    model.graph.value_info.extend(told)


def inferred(model: Any) -> Any:
    """A copy of the model, without its larger weights, in which all that ONNX can tell of its values is written."""
    import onnx

    bare = without(model)
    small = {tensor.name: tensor for tensor in bare.graph.initializer}
    for inner in graphs(bare)[:-1]:  # inference does not look for numbers outside of a graph
        used = dict.fromkeys(name for node in inner.node for name in node.input)
        inner.initializer.extend(small[name] for name in used if name in small)
    try:
        return onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError):
        return bare


def _shape(kind: Any) -> Shape:
    if not kind.HasField("shape"):
        return Shape(kind.elem_type, None)
    sizes = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)
    return Shape(kind.elem_type, sizes)
