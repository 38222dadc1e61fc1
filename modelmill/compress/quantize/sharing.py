"""Weights that share few values: k-means, and the codes in a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.stored import INT32, expanded
from modelmill.compress.quantize.stored import coded as stored
from modelmill.compress.share.looked import Looked
from modelmill.contracts import Array

ROUNDS = 50
SAMPLE = 2**20
"""Weights of a layer that k-means looks at, evenly taken, where there are more."""


def clustered(weight: Array, count: int) -> tuple[Array, Array]:
    """At most so many centroids, in order, and for every weight the number of its own; zeros have one of their own.

    Centroids start evenly between the ends, which serves few but large weights best, as the paper found; and once more
    half of them so and half where weights are many, which serves those best if there are 256. The better one stays.

    >>> centroids, codes = clustered(np.array([[0.0, 1.0], [2.0, -3.0]], np.float32), 3)
    >>> centroids.tolist(), codes.tolist()
    ([-3.0, 0.0, 1.5], [[1, 2], [2, 0]])
    """
    step = max(1, weight.size // SAMPLE)
    flat = np.sort(weight.ravel()[::step]).astype(np.float64)
    moving = flat[flat != 0]
    zero = [0.0] if not weight.all() else []
    distinct = np.unique(moving)
    centroids = distinct
    if len(distinct) > count - len(zero):
        free = max(count - len(zero), 1)
        evenly = np.linspace(distinct[0], distinct[-1], free)
        half = np.linspace(distinct[0], distinct[-1], free - free // 2)
        crowded = np.quantile(moving, (np.arange(free // 2) + 0.5) / max(free // 2, 1))
        sums = np.concatenate([[0.0], np.cumsum(moving)])
        tried = [_settle(moving, sums, np.sort(start)) for start in (evenly, np.concatenate([half, crowded]))]
        centroids = min(tried, key=lambda found: found[0])[1]
    centroids = np.unique(np.concatenate([centroids, zero])).astype(np.float32)
    return centroids, _nearest(weight, centroids)


def _settle(numbers: Array, sums: Array, centroids: Array) -> tuple[float, Array]:
    """Sorted numbers' k-means from a start: the squared error, less what no start changes, and the centroids.

    sums: of all numbers before each place.
    """
    lost = 0.0
    for _ in range(ROUNDS):
        edges = np.searchsorted(numbers, (centroids[1:] + centroids[:-1]) / 2)
        ends = np.concatenate([[0], edges, [len(numbers)]])
        sizes, totals = np.diff(ends), np.diff(sums[ends])
        moved = np.sort(np.where(sizes > 0, totals / np.maximum(sizes, 1), centroids))
        lost = -float((totals**2 / np.maximum(sizes, 1)).sum())
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return lost, centroids


def _nearest(weight: Array, centroids: Array) -> Array:
    """For every weight the number of the nearest centroid; a zero's is zero."""
    edges, flat = (centroids[1:] + centroids[:-1]) / 2, weight.ravel()
    parts = [np.searchsorted(edges, flat[i : i + SAMPLE]).astype(np.uint8) for i in range(0, len(flat), SAMPLE)]
    codes = np.concatenate(parts).reshape(weight.shape)
    if (centroids == 0).any():
        codes[weight == 0] = int(np.flatnonzero(centroids == 0)[0])
    return codes


def shared(layer: nn.Module, count: int) -> Looked:
    """The layer with at most so many different weights; zeros stay zeros."""
    table, codes = clustered(layer.weight.detach().numpy(), count)
    return Looked(layer, table, codes, held=True)


def coded(model: Any, name: str, weight: Array, count: int) -> int:
    """Put a codebook and codes in the place of a weight; the number of centroids."""
    from onnx import helper, numpy_helper

    centroids, codes = clustered(weight, count)
    tensor = stored(model, f"{name}_codes", codes, len(centroids))
    book = numpy_helper.from_array(centroids, f"{name}_book")
    nodes = [
        helper.make_node("Cast", [tensor.name], [f"{name}_index"], to=INT32),
        helper.make_node("Gather", [book.name, f"{name}_index"], [name]),
    ]
    expanded(model, name, [tensor, book], nodes)
    return len(centroids)


def round_biases(model: Any, weight: str, bits: int) -> None:
    """Keep so many significant bits of the biases that stand beside a weight."""
    from onnx import numpy_helper

    known = constants(model)
    for node in model.graph.node:
        if len(node.input) > 2 and node.input[1] == weight and node.input[2] in known:
            tensor = known[node.input[2]]
            value = rounded(numpy_helper.to_array(tensor), bits)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def rounded(value: Array, bits: int) -> Array:
    """Floats with so many significant bits.

    >>> rounded(np.array([0.3, -5.1], np.float32), 3).tolist()
    [0.3125, -5.0]
    """
    mantissa, exponent = np.frexp(value)
    short: Array = np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits).astype(value.dtype)
    return short
