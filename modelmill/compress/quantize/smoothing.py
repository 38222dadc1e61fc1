"""Moves scale from activations into the weights that read them, channel by channel, without changing the answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from modelmill.compress.quantize.calibrate import runs
from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.weights import Weight, weights
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.graph.apart import rest

THROUGH = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"})
"""What gives so many times as much of a channel when it is given so many times as much, and is not negative."""


class Reader(NamedTuple):
    """The weight of a node: its initializer's name, how many axes it has, and which of them are the inputs."""

    name: str
    axes: int
    inputs: int


@dataclass(frozen=True, eq=False)
class Link:
    """A value that nodes with weights read, and the constants that its channels are scaled by on its way."""

    value: str
    readers: list[Reader]
    inputs: list[Array]
    """Of every reader: the largest weight of each input channel."""
    makers: list[tuple[str, int]]
    """Initializers, with the axis of their channels."""


def smooth(model: Any, nodes: list[str], dataset: Dataset, alpha: float) -> tuple[Any, int]:
    """The model with other weights, and how many values were smoothed."""
    found = links(model, nodes)
    if not found:
        return model, 0
    largest = _largest(model, found, dataset)
    factors = defaultdict[str, list[tuple[int, Array]]](list)
    for link in found:
        scale = scales(largest[link.value], np.max(link.inputs, axis=0), alpha)
        for reader in link.readers:
            factors[reader.name].append((reader.inputs, scale))
        for name, axis in link.makers:
            factors[name].append((axis, 1 / scale))
    made = rest(model)
    made.graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        if tensor.name in factors:
            scaled = made.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            scaled.raw_data = _scaled(tensor, factors[tensor.name]).tobytes()
        else:
            made.graph.initializer.append(tensor)
    return made, len(found)


def scales(activation: Array, weight: Array, alpha: float) -> Array:
    """By what each channel's weights are multiplied, and its activations divided; 1 where there is nothing.

    >>> scales(np.array([16.0, 1.0, 0.0]), np.array([1.0, 4.0, 1.0]), 0.5).tolist()
    [4.0, 0.5, 1.0]
    """
    both = (activation > 1e-5) & (weight > 1e-5)
    safe = np.where(both, activation, 1.0) ** alpha / np.where(both, weight, 1.0) ** (1 - alpha)
    return np.asarray(np.where(both, safe, 1.0), np.float32)


def links(model: Any, nodes: list[str]) -> list[Link]:
    """The values that can be smoothed: read by nodes with weights alone, made by constants, without branches."""
    given = weights(model, nodes)
    readers: dict[str, list[Any]] = {}
    uses: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
            uses[name] = uses.get(name, 0) + 1
    found = []
    for value in dict.fromkeys(node.input[0] for node in model.graph.node if node.name in given):
        each = readers[value]
        plain = all(node.name in given and not _grouped(node) and uses[node.input[1]] == 1 for node in each)
        if not plain or value in {output.name for output in model.graph.output}:
            continue
        inputs = [_largest_of(given[node.name]) for node in each]
        makers = _makers(model, value, uses, len(inputs[0]))
        if makers:
            found.append(Link(value, [_reader(given[node.name]) for node in each], inputs, makers))
    return found


def _reader(weight: Weight) -> Reader:
    return Reader(weight.name, weight.value.ndim, 1 if weight.axis == 0 else 0)


def _largest_of(weight: Weight) -> Array:
    """The largest size of a number of each input."""
    rows = np.moveaxis(weight.value, _reader(weight).inputs, 0)
    others = tuple(range(1, rows.ndim))
    return np.asarray(np.maximum(rows.max(others), -rows.min(others)))


def _grouped(node: Any) -> bool:
    return any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)


def _makers(model: Any, value: str, uses: Mapping[str, int], channels: int) -> list[tuple[str, int]]:
    """The constants that make a value's channels; none where it cannot be told, or where others read them too."""
    shapes = {name: tuple(tensor.dims) for name, tensor in constants(model).items() if tensor.data_type == 1}
    nodes = {name: node for node in model.graph.node for name in node.output}
    node, found = nodes.get(value), list[tuple[str, int]]()
    while node is not None and node.op_type in THROUGH:
        value = node.input[0]
        node = nodes.get(value) if uses.get(value) == 1 else None
    if node is None:
        return []
    if node.op_type == "Add" and len(bias := [name for name in node.input if name in shapes]) == 1:
        found.append((bias[0], len(shapes[bias[0]]) - 1))
        value = next(name for name in node.input if name not in shapes)
        node = nodes.get(value) if uses.get(value) == 1 else None
    if node is None:
        return []
    if node.op_type == "LayerNormalization":
        found += [(name, 0) for name in node.input[1:] if name]
    elif node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in shapes:
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        rows = node.op_type == "Conv" or turned
        found += [(node.input[1], 0 if rows else len(shapes[node.input[1]]) - 1)]
        found += [(name, 0) for name in node.input[2:]]
    else:
        return []
    fits = all(name in shapes and uses[name] == 1 and shapes[name][axis] == channels for name, axis in found)
    return found if fits else []


def _largest(model: Any, found: list[Link], dataset: Dataset) -> dict[str, Array]:
    """The largest size of every channel of the values: the last axis, or the second of an image's."""
    largest: dict[str, Array] = {}
    for outputs in runs(model, [link.value for link in found], dataset):
        for link in found:
            value, channels = np.abs(outputs[link.value]), len(link.inputs[0])
            axis = 1 if link.readers[0].axes > 2 or value.shape[-1] != channels else value.ndim - 1
            seen = np.moveaxis(value, axis, 0).reshape(channels, -1).max(1)
            largest[link.value] = np.maximum(largest.get(link.value, seen), seen)
    return largest


def _scaled(tensor: Any, factors: Sequence[tuple[int, Array]]) -> Array:
    """The numbers of a tensor multiplied along its axes."""
    from onnx import numpy_helper

    value = np.array(numpy_helper.to_array(tensor), "<f4")
    for axis, by in factors:
        value *= by.reshape([-1 if place == axis else 1 for place in range(value.ndim)])
    return value
