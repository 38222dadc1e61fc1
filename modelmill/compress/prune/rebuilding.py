"""Cuts channels out of a graph, and has the layers that read them make up for it, by least squares on sample rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelmill.compress.prune.spaces import Spaces, places
from modelmill.compress.quantize.calibrate import runs
from modelmill.compress.quantize.columns import inputs
from modelmill.compress.quantize.weights import Weight, weights
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.graph.scopes import nodes, read

SMALL = 4096
"""Numbers of a constant that is copied for each of its readers, so that one can be cut without the others."""
MOST = 3000
"""Numbers that a layer reads for an output, beyond which it is cut and makes up for nothing."""
PLACES = 2048
"""Rows of inputs of a layer that are looked at of a batch."""
DAMPING = 1e-4
"""What is added to the squares of inputs, in units of their mean."""


def unshare(model: Any) -> None:
    """Give every node constants of its own, in place, where these are small."""
    used = read(model)
    for tensor in list(model.graph.initializer):
        if used.get(tensor.name, 0) < 2 or math.prod(tensor.dims) > SMALL:
            continue
        for node in nodes(model):
            for place, name in enumerate(node.input):
                if name == tensor.name:
                    copied = model.graph.initializer.add()
                    copied.CopyFrom(tensor)
                    copied.name = node.input[place] = f"{tensor.name}_{node.name}_{place}"


def products(model: Any, spaces: Spaces, dataset: Dataset) -> dict[str, Array]:
    """For every layer that reads channels the mean products of its inputs with each other and with 1, both axes.

    Layers with too many inputs have none.
    """
    given = weights(model, [reader.node.name for reader in spaces.readers])
    layers = [reader.node for reader in spaces.readers if _width(given[reader.node.name]) <= MOST]
    found: dict[str, Array] = {}
    batches = 0
    for outputs in runs(model, list(dict.fromkeys(node.input[0] for node in layers)), dataset):
        batches += 1
        for node in layers:
            seen = inputs(node, outputs[node.input[0]], given[node.name])
            seen = seen[:: max(1, len(seen) // PLACES)]
            rows = np.concatenate([seen, np.ones((len(seen), 1), seen.dtype)], 1)
            found[node.name] = found.get(node.name, 0) + (rows.T @ rows).astype(np.float64) / len(rows)
    return {name: value / batches for name, value in found.items()}


def _width(weight: Weight) -> int:
    return int(weight.rows.shape[1])


def chosen(model: Any, spaces: Spaces, seen: Mapping[str, Array], counts: Mapping[int, int]) -> dict[int, Array]:
    """The channels of every space that stay, so many; of spaces nobody can tell of, all: they are left out."""
    given = weights(model, list(seen))
    sums: dict[int, list[_Sum]] = {}
    for reader in spaces.readers:
        if reader.node.name not in seen:
            continue
        weight = given[reader.node.name]
        spots = _width(weight) // sum(segment.width * segment.spread for segment in reader.segments)
        start = 0
        for segment in reader.segments:
            size, space = segment.spread * spots, spaces.root(segment.space)
            if space in counts:
                made = _Sum(weight.rows, seen[reader.node.name], start, segment.width, size)
                sums.setdefault(space, []).append(made)
            start += segment.width * size
    return {space: _greedy(each, spaces.widths[space], counts[space]) for space, each in sums.items()}


def _greedy(sums: Sequence[_Sum], width: int, count: int) -> Array:
    """So many channels that stay; one after the other goes that is missed least once the others have made up for it."""
    stay = np.ones(width, bool)
    while stay.sum() > count:
        costs = np.sum([one.costs(stay) for one in sums], axis=0)
        gone = int(np.where(stay, costs, np.inf).argmin())
        stay[gone] = False
        for one in sums:
            one.drop(gone)
    return np.flatnonzero(stay)


class _Sum:
    """The sums of a layer, of which channels are dropped one by one; the others make up for each.

    Hassibi & Stork (1992), with a channel's inputs together.
    """

    def __init__(self, rows: Array, seen: Array, start: int, width: int, size: int) -> None:
        square = seen + np.eye(len(seen)) * DAMPING * max(float(np.mean(np.diag(seen))), 1e-12)
        self.inverse = np.linalg.inv(square)
        self.rows = np.concatenate([rows, np.zeros((len(rows), 1))], 1).astype(np.float64)
        self.unit = max(float(((self.rows @ square) * self.rows).sum()), 1e-300)
        self.start, self.width, self.size = start, width, size

    def costs(self, stay: Array) -> Array:
        """By how much the sums would be off, squared, without each channel, in units of the sums."""
        part = slice(self.start, self.start + self.width * self.size)
        both = self.inverse[part, part].reshape(self.width, self.size, self.width, self.size)
        blocks = both[np.arange(self.width), :, np.arange(self.width)]
        blocks[~stay] = np.eye(self.size)
        held = self.rows[:, part].reshape(-1, self.width, self.size)
        solved = np.linalg.solve(blocks, held.transpose(1, 2, 0))
        return np.asarray((solved * held.transpose(1, 2, 0)).sum((1, 2)) / self.unit)

    def drop(self, channel: int) -> None:
        """Let a channel go, and the others make up for it."""
        part = slice(self.start + channel * self.size, self.start + (channel + 1) * self.size)
        solved = np.linalg.solve(self.inverse[part, part], self.inverse[part])
        self.rows -= self.rows[:, part] @ solved
        self.inverse -= self.inverse[:, part] @ solved


def cut(model: Any, spaces: Spaces, kept: Mapping[int, Array], seen: Mapping[str, Array]) -> None:
    """Keep those channels of spaces alone, in place."""
    given = weights(model, [reader.node.name for reader in spaces.readers])
    for reader in spaces.readers:
        if any(spaces.root(segment.space) in kept for segment in reader.segments):
            _rebuild(model, reader.node, given[reader.node.name], places(reader.segments, kept, spaces), seen)
    for use in spaces.uses:
        if any(spaces.root(segment.space) in kept for segment in use.segments):
            value = _array(model, use.tensor)
            _store(model, use.tensor, np.take(value, places(use.segments, kept, spaces), use.axis))
    for attribute, segments in spaces.groups:
        attribute.i = len(places(segments, kept, spaces))
    for node, place, segments in spaces.targets:
        asked = _array(model, node.input[1]).copy()
        asked[place] = len(places(segments, kept, spaces))
        _store(model, node.input[1], asked)


def _rebuild(model: Any, node: Any, weight: Weight, stay: Array, seen: Mapping[str, Array]) -> None:
    """Give a layer weights for the inputs that stay, and a bias, that make up the sums of all as well as they can."""
    rows = weight.rows
    spots = weight.value[0].size // weight.value.shape[1] if node.op_type == "Conv" else 1
    columns = (stay[:, None] * spots + np.arange(spots)).ravel()
    made, shift = rows[:, columns], np.zeros(len(rows))
    if node.name in seen:
        whole = seen[node.name]
        biased = node.op_type != "MatMul"
        index = np.append(columns, len(whole) - 1) if biased else columns
        square = whole[np.ix_(index, index)]
        ridge = DAMPING * max(float(np.mean(np.diag(square))), 1e-12)
        before = np.concatenate([rows, np.zeros((len(rows), 1))], 1).astype(np.float64)
        start = before[:, index]
        wanted = (before - _spread(start, index, before.shape[1])) @ whole[:, index]
        found = start + np.linalg.solve(square + ridge * np.eye(len(index)), wanted.T).T
        made = found[:, : len(columns)]
        shift = found[:, -1] if biased else shift
    _store(model, weight.name, _shaped(weight, node, made, len(stay)).astype(np.float32))
    if shift.any():
        _shift(model, node, shift.astype(np.float32))


def _spread(values: Array, index: Array, width: int) -> Array:
    """Columns at their places among others that are zero."""
    found = np.zeros((len(values), width))
    found[:, index] = values
    return found


def _shaped(weight: Weight, node: Any, rows: Array, stay: int) -> Array:
    """Rows of weights in the layout of the node's."""
    if node.op_type == "Conv":
        return np.ascontiguousarray(rows.reshape(len(rows), stay, *weight.value.shape[2:]))
    return np.ascontiguousarray(rows if weight.axis == 0 else rows.T)


def _shift(model: Any, node: Any, shift: Array) -> None:
    """Add to the bias of a layer, or give it one."""
    from onnx import numpy_helper

    if len(node.input) > 2 and node.input[2]:
        bias = _array(model, node.input[2])
        _store(model, node.input[2], (bias + shift.reshape(bias.shape) if bias.size == shift.size else bias + shift))
        return
    name = f"{node.name}_bias"
    model.graph.initializer.append(numpy_helper.from_array(shift, name))
    del node.input[2:]
    node.input.append(name)


def _array(model: Any, name: str) -> Array:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name)))


def _store(model: Any, name: str, value: Array) -> None:
    from onnx import numpy_helper

    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
