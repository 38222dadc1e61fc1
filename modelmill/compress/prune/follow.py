"""Follows the channels of a graph from the node that makes them to those that mix them again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from modelmill.compress.prune.spaces import Laid, Reader, Segment, Spaces, Use
from modelmill.contracts import Array
from modelmill.graph.scopes import graphs, reads
from modelmill.graph.shapes import Shape, shapes

UNARY = frozenset(
    {"Relu", "LeakyRelu", "ThresholdedRelu", "Clip", "Sigmoid", "Tanh", "Gelu", "Erf", "HardSwish", "HardSigmoid"}
    | {"Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "Swish", "Sqrt", "Neg", "Abs", "Exp", "Log", "Reciprocal"}
    | {"Identity", "Dropout", "Cast"}
)
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "PRelu", "Sum"})
POOLS = frozenset({"MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
REDUCERS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"})
SHAPED = frozenset({"Shape", "Size"})


def follow(model: Any) -> Spaces:
    """Follow the channels of the outermost graph."""
    return _Follower(model).spaces


class _Follower:
    """One way through a graph, node by node."""

    def __init__(self, model: Any) -> None:
        self.shapes: dict[str, Shape] = shapes(model)
        self.known = {tensor.name: tensor for tensor in model.graph.initializer}
        self.laid: dict[str, Laid] = {}
        self.spaces = Spaces()
        for node in model.graph.node:
            self._node(node)
        inner = {name for graph in graphs(model)[:-1] for node in graph.node for name in reads(node)}
        for name in inner & self.laid.keys():
            self.spaces.hold(self.laid[name].segments, "a branch or a loop reads it")
        for value in model.graph.output:
            if value.name in self.laid:
                self.spaces.hold(self.laid[value.name].segments, "it is an output")

    def _node(self, node: Any) -> None:
        made = self._through(node)
        if made is not None:
            self.laid[node.output[0]] = made
            return
        for name in node.input:
            if name in self.laid and node.op_type not in SHAPED:
                self.spaces.hold(self.laid[name].segments, f"{node.op_type} reads it")

    def _through(self, node: Any) -> Laid | None:
        """How channels lie in what a node gives; None where they cannot be followed through it."""
        kind = node.op_type
        if node.domain not in ("", "ai.onnx") or not node.input:
            return None
        if kind in ("Conv", "Gemm", "MatMul"):
            return self._mixed(node)
        if kind in BINARY:
            return self._binary(node)
        if kind == "Concat":
            return self._concat(node)
        given = self.laid.get(node.input[0])
        if given is None:
            return None
        if kind in UNARY:
            return given
        if kind == "BatchNormalization":
            return self._scaled(node, given)
        if kind in POOLS:
            return given if given.axis == 1 else None
        if kind in REDUCERS:
            return self._reduced(node, given)
        return self._moved(node, given)

    def _mixed(self, node: Any) -> Laid | None:
        """A layer: it ends a space and begins another; a depthwise convolution keeps the one it reads."""
        weight = self.known.get(node.input[1])
        rank = self._rank(node.output[0])
        if weight is None or weight.data_type != 1 or rank is None:
            return None
        settings = {attribute.name: attribute for attribute in node.attribute}
        given = self.laid.get(node.input[0])
        dims, biases = list(weight.dims), [name for name in node.input[2:] if name]
        if any(name not in self.known for name in biases):
            return None
        if node.op_type == "Conv":
            groups = settings["group"].i if "group" in settings else 1
            if groups != 1:
                if given is None or dims[0] != groups or dims[1] != 1 or given.axis != 1:
                    return None
                self._use(node.input[1], 0, given.segments)
                self.spaces.groups.append((settings["group"], given.segments))
                for name in biases:
                    self._use(name, 0, given.segments)
                return given
            axis, out = 1, 0
        else:
            turned = "transB" in settings and settings["transB"].i == 1
            plain = not ("transA" in settings and settings["transA"].i) and len(dims) == 2
            if not plain:
                return None
            axis, out = rank - 1, 0 if turned else 1
        if given is not None:
            if given.axis != axis:
                return None
            self.spaces.readers.append(Reader(node, given.segments))
        segments = (Segment(self.spaces.space(dims[out]), dims[out], 1),)
        self._use(node.input[1], out, segments)
        for name in biases:
            sizes = list(self.known[name].dims)
            if sizes and sizes[-1] == dims[out]:
                self._use(name, len(sizes) - 1, segments)
        return Laid(axis, segments)

    def _binary(self, node: Any) -> Laid | None:
        rank = self._rank(node.output[0])
        laid = [self.laid[name] for name in node.input if name in self.laid]
        if rank is None or not laid:
            return None
        first = laid[0]
        width = sum(segment.width * segment.spread for segment in first.segments)
        for name in node.input:
            if name in self.known:
                sizes = list(self.known[name].dims)
                place = len(sizes) - (rank - first.axis)
                if place >= 0 and sizes[place] != 1:
                    self._use(name, place, first.segments)
            elif name in self.laid:
                other = self.laid[name]
                if other.axis != first.axis or self._rank(name) != rank or not self._together(first, other):
                    return None
            else:
                shape = self.shapes.get(name)
                if shape is None or shape.sizes is None:
                    return None
                place = len(shape.sizes) - (rank - first.axis)
                if place >= 0 and shape.sizes[place] != 1 and width != 1:
                    return None
        return first

    def _together(self, first: Laid, second: Laid) -> bool:
        """Join what lies in the same places of two values."""
        shaped = [[(segment.width, segment.spread) for segment in laid.segments] for laid in (first, second)]
        if shaped[0] != shaped[1]:
            return False
        for one, two in zip(first.segments, second.segments, strict=True):
            self.spaces.join(one.space, two.space)
        return True

    def _concat(self, node: Any) -> Laid | None:
        rank = self._rank(node.output[0])
        laid = [self.laid.get(name) for name in node.input]
        if rank is None or any(one is None for one in laid):
            return None
        axis = node.attribute[0].i % rank
        known = [one for one in laid if one is not None]
        if any(one.axis != known[0].axis for one in known):
            return None
        if axis == known[0].axis:
            return Laid(axis, tuple(segment for one in known for segment in one.segments))
        return known[0] if all(self._together(known[0], one) for one in known[1:]) else None

    def _scaled(self, node: Any, given: Laid) -> Laid | None:
        if given.axis != 1 or not all(name in self.known for name in node.input[1:]):
            return None
        for name in node.input[1:]:
            self._use(name, 0, given.segments)
        return given

    def _reduced(self, node: Any, given: Laid) -> Laid | None:
        rank, settings = self._rank(node.input[0]), {attribute.name: attribute for attribute in node.attribute}
        axes = self._axes(node, settings)
        if rank is None or not axes:
            return None
        gone = {axis % rank for axis in axes}
        if given.axis in gone:
            return None
        kept = "keepdims" not in settings or settings["keepdims"].i
        return given if kept else Laid(given.axis - sum(axis < given.axis for axis in gone), given.segments)

    def _axes(self, node: Any, settings: dict[str, Any]) -> list[int]:
        """The axes that a node is told, by an attribute or by a constant."""
        if "axes" in settings:
            return list(settings["axes"].ints)
        if len(node.input) > 1 and node.input[1] in self.known:
            return [int(axis) for axis in self._array(node.input[1]).ravel()]
        return []

    def _moved(self, node: Any, given: Laid) -> Laid | None:
        """What only lays channels out anew."""
        rank, made = self._rank(node.input[0]), self._rank(node.output[0])
        settings = {attribute.name: attribute for attribute in node.attribute}
        if rank is None or made is None:
            return None
        if node.op_type == "Transpose" and "perm" in settings:
            return Laid(list(settings["perm"].ints).index(given.axis), given.segments)
        if node.op_type in ("Squeeze", "Unsqueeze"):
            axes = {axis % max(rank, made) for axis in self._axes(node, settings)}
            places = [place for place in range(max(rank, made)) if place not in axes]
            if not axes or (node.op_type == "Squeeze" and given.axis in axes):
                return None
            return Laid(places.index(given.axis) if made < rank else places[given.axis], given.segments)
        if node.op_type == "Flatten" or (node.op_type == "Reshape" and node.input[1] in self.known):
            return self._reshaped(node, given, rank, made)
        return None

    def _reshaped(self, node: Any, given: Laid, rank: int, made: int) -> Laid | None:
        """Channels behind the rows: flattened with what is behind them, or with axes of one number put there."""
        sizes = self.shapes[node.input[0]].sizes
        if given.axis != 1 or sizes is None or None in sizes[2:]:
            return None
        behind = math.prod(size for size in sizes[2:] if size is not None)
        width = sum(segment.width * segment.spread for segment in given.segments)
        after = self.shapes[node.output[0]].sizes
        if after is None or made < 2 or None in after[1:]:
            return None
        if made == 2 and after[1] == width * behind:
            segments = tuple(Segment(s.space, s.width, s.spread * behind) for s in given.segments)
        elif after[1] == width and behind == 1 and all(size == 1 for size in after[2:]):
            segments = given.segments
        else:
            return None
        if node.op_type == "Reshape":
            asked = self._array(node.input[1])
            if asked[1] > 0:
                self.spaces.targets.append((node, 1, segments))
        elif any(attribute.name == "axis" and attribute.i != 1 for attribute in node.attribute):
            return None
        return Laid(1, segments)

    def _use(self, tensor: str, axis: int, segments: tuple[Segment, ...]) -> None:
        self.spaces.uses.append(Use(tensor, axis, segments))

    def _array(self, name: str) -> Array:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.known[name]))

    def _rank(self, name: str) -> int | None:
        shape = self.shapes.get(name)
        return None if shape is None else shape.rank
