"""What is done to images in the graph, before the body."""

from __future__ import annotations

import numpy as np

from modelmill.contracts import Array
from modelmill.fragment import Writer

AXES = (2, 3)
"""Height and width."""


def gaussian(size: int, sigma: float) -> Array:
    """(size, size) weights of a Gaussian that sum to one; with a deviation of 0 pixels, those of the identity.

    >>> gaussian(3, 0).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    places = np.arange(size) - size // 2
    line = np.exp(-(places**2) / (2 * sigma**2)) if sigma else (places == 0).astype(np.float64)
    grid = np.outer(line, line)
    return np.asarray(grid / grid.sum(), np.float32)


def blurred(value: str, channels: int, weights: Array, writer: Writer) -> str:
    """Write a fixed filter over every channel; beyond the border there are the pixels of the border."""
    side = len(weights)
    padded = _bordered(value, (side // 2, side // 2), writer)
    kernel = np.broadcast_to(weights, (channels, 1, side, side))
    attributes = {"kernel_shape": [side, side], "group": channels}
    return writer.op("Conv", [padded, writer.constant(np.array(kernel))], attributes)


def median(value: str, writer: Writer) -> str:
    """Write the median of a pixel and its neighbours above and below, then of left and right."""
    for axis in AXES:
        border = (1, 0) if axis == 2 else (0, 1)
        padded = _bordered(value, border, writer)
        low, middle, high = (_cut(padded, start, start - 2, axis, writer) for start in range(3))
        most = writer.op("Min", [writer.op("Max", [low, middle]), high])
        value = writer.op("Max", [writer.op("Min", [low, middle]), most])
    return value


def _bordered(value: str, border: tuple[int, int], writer: Writer) -> str:
    return writer.op("Pad", [value, writer.constant([0, 0, *border] * 2)], {"mode": "edge"})


def _cut(value: str, start: int, end: int, axis: int, writer: Writer) -> str:
    """The pixels of an axis from `start` up to `end`, counted from behind; 0 is all."""
    places = [start, end or np.iinfo(np.int64).max, axis]
    return writer.op("Slice", [value, *(writer.constant([place], np.int64) for place in places)])


def pooled(value: str, factor: int, writer: Writer) -> str:
    """Write the mean of every square of `factor` pixels; what is left over at the right and below is cut off."""
    return writer.op("AveragePool", [value], {"kernel_shape": [factor] * 2, "strides": [factor] * 2})
