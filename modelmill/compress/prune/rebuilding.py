"""Cuts channels out of a graph, and has the layers that read them make up for it, by least squares on sample rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from modelmill.compress.prune.leaving import DAMPING, Sums, greedy
from modelmill.compress.prune.spaces import Spaces, places
from modelmill.compress.quantize.moments import Moments, moments
from modelmill.compress.quantize.stored import FLOAT
from modelmill.compress.quantize.weights import Weight, weights
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.graph.scopes import nodes, read

SMALL = 4096
"""Numbers of a constant that is copied for each of its readers, so that one can be cut without the others."""
MOST = 3000
"""Numbers that a layer reads for an output, beyond which it is cut and makes up for nothing."""
STRIP = 256
"""Outputs of a layer that are made up at once."""
PLACES = 2048
"""Rows of inputs of a layer that are looked at of a batch."""


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


def products(model: Any, spaces: Spaces, dataset: Dataset) -> AbstractContextManager[Moments]:
    """For every layer that reads channels the mean products of its inputs with each other and with 1, both axes.

    Layers with too many inputs have none.
    """
    given = weights(model, [reader.node.name for reader in spaces.readers])
    layers = [reader.node.name for reader in spaces.readers if _width(given[reader.node.name]) <= MOST]
    return moments(model, layers, dataset, ones=True, most=PLACES)


def _width(weight: Weight) -> int:
    return int(weight.value.size // weight.value.shape[weight.axis])


def chosen(model: Any, spaces: Spaces, seen: Moments, counts: Mapping[int, int]) -> dict[int, Array]:
    """The channels of every space that stay, so many; of spaces nobody can tell of, all: they are left out."""
    given = weights(model, [reader.node.name for reader in spaces.readers])
    where: dict[int, list[_Part]] = {}
    for reader in spaces.readers:
        name = reader.node.name
        if name not in seen:
            continue
        spots = _width(given[name]) // sum(segment.width * segment.spread for segment in reader.segments)
        start = 0
        for segment in reader.segments:
            size, space = segment.spread * spots, spaces.root(segment.space)
            if space in counts:
                where.setdefault(space, []).append(_Part(name, start, segment.width, size))
            start += segment.width * size
    found = {}
    for space, parts in where.items():
        sums = [Sums(seen.take(name), given[name].rows, start, width, size) for name, start, width, size in parts]
        found[space] = greedy(sums, counts[space])
        del sums  # one space at a time
    return found


class _Part(NamedTuple):
    """Channels of a space among the inputs of a layer: where they begin, how many, and how many numbers each has."""

    name: str
    start: int
    width: int
    size: int


def biased(model: Any) -> None:
    """Give every layer a bias, of zeros where it has none: what makes up for lost inputs is cut with its channels."""
    from onnx import numpy_helper

    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or (len(node.input) > 2 and node.input[2]):
            continue
        if (weight := known.get(node.input[1])) is None or weight.data_type != FLOAT:
            continue
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        width = weight.dims[0 if node.op_type == "Conv" or turned else 1]
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(width, np.float32), f"{node.name}_bias"))
        del node.input[2:]
        node.input.append(f"{node.name}_bias")


def cut(model: Any, spaces: Spaces, kept: Mapping[int, Array], seen: Moments) -> None:
    """Keep those channels of spaces alone, in place."""
    given = weights(model, [reader.node.name for reader in spaces.readers])
    for reader in spaces.readers:
        if any(spaces.root(segment.space) in kept for segment in reader.segments):
            square = seen.take(reader.node.name) if reader.node.name in seen else None
            _rebuild(model, reader.node, given[reader.node.name], places(reader.segments, kept, spaces), square)
            del square  # one layer at a time
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


def _rebuild(model: Any, node: Any, weight: Weight, stay: Array, square: Array | None) -> None:
    """Give a layer weights for the inputs that stay, and a bias, that make up the sums of all as well as they can.

    square: the mean products of its inputs, where they are known.
    """
    rows = weight.rows
    spots = weight.value[0].size // weight.value.shape[1] if node.op_type == "Conv" else 1
    columns = (stay[:, None] * spots + np.arange(spots)).ravel()
    made, shift = rows[:, columns], np.zeros(len(rows))
    if square is not None:
        made, shift = _made_up(rows, columns, square, biased=node.op_type != "MatMul")
    _store(model, weight.name, _shaped(weight, node, made, len(stay)))
    if shift.any():
        _shift(model, node, shift.astype(np.float32))


def _made_up(rows: Array, columns: Array, products: Array, biased: bool) -> tuple[Array, Array]:
    """Weights of those columns, and what is added to the sums, that are nearest to all; some outputs at a time."""
    from scipy.linalg import cho_factor, cho_solve

    index = np.append(columns, len(products) - 1) if biased else columns
    gone = np.setdiff1d(np.arange(rows.shape[1]), columns)
    square, cross = products[np.ix_(index, index)], products[np.ix_(gone, index)]
    square[np.diag_indices_from(square)] += DAMPING * max(float(np.mean(np.diag(square))), 1e-12)
    factor = cho_factor(square, lower=True, overwrite_a=True, check_finite=False)
    made, shift = rows[:, columns].astype(np.float32), np.zeros(len(rows))
    for at in range(0, len(rows), STRIP):
        wanted = rows[at : at + STRIP, gone].astype(np.float64) @ cross
        more = cho_solve(factor, wanted.T, overwrite_b=True, check_finite=False).T
        made[at : at + STRIP] += more[:, : len(columns)]
        shift[at : at + STRIP] = more[:, -1] if biased else 0
    return made, shift


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
