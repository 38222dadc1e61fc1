"""Bring pixels to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from modelmill.contracts import Array, Column, Preparation
from modelmill.errors import ContentError
from modelmill.fragment import Writer
from modelmill.prepare.block import values

FLOAT = 1
"""The number of float32 in ONNX."""


class Image(Preparation):
    """Images as (rows, channels, height, width) float32, from raw pixels (rows, height, width[, channels]).

    By "unit", black stays 0, which is also what a network pads with.
    """

    by: Literal["unit", "standard"] = "unit"
    """To 0-1 by the largest pixel in training, or every channel to mean 0 and deviation 1."""

    def __call__(self, columns: Sequence[Column], writer: Writer) -> Sequence[Column]:
        """Image columns are cast, brought to channels first, and scaled."""
        return [self._scaled(column, writer) if column.kind == "image" else column for column in columns]

    def _scaled(self, column: Column, writer: Writer) -> Column:
        pixels = values(column)
        shift, factor = self._fit(pixels)
        name = column.name
        if pixels.dtype != np.float32:
            name = writer.op("Cast", [name], {"to": FLOAT})
        name = _channels_first(name, pixels.shape, writer)
        if shift.any():
            name = writer.op("Sub", [name, writer.constant(shift.astype(np.float32))])
        name = writer.op("Mul", [name, writer.constant(factor.astype(np.float32))])
        return Column(name, "image", column.labels)

    def _fit(self, pixels: Array) -> tuple[Array, Array]:
        """Shift and factor: (channels, 1, 1) each, or (1, 1, 1) for all channels."""
        if self.by == "unit":
            low, high = min(float(pixels.min()), 0.0), float(pixels.max())
            return np.full((1, 1, 1), low), np.full((1, 1, 1), 1 / (high - low) if high > low else 1.0)
        by_channel = pixels.reshape(-1, pixels.shape[3] if pixels.ndim == 4 else 1)
        mean = by_channel.mean(axis=0, dtype=np.float64)
        spread = by_channel.std(axis=0, dtype=np.float64)
        factor = 1 / np.where(spread > 1e-6, spread, 1)
        return mean.reshape(-1, 1, 1), factor.reshape(-1, 1, 1)


def _channels_first(name: str, shape: tuple[int, ...], writer: Writer) -> str:
    if len(shape) == 3:
        return writer.op("Reshape", [name, writer.constant([-1, 1, *shape[1:]], np.int64)])
    if len(shape) != 4:
        message = f"has the shape {shape[1:]} a row, expected (height, width) or (height, width, channels)"
        raise ContentError("prepare/image", message, "Give images of one size.")
    if shape[3] == 1:
        return writer.op("Reshape", [name, writer.constant([-1, 1, *shape[1:3]], np.int64)])
    return writer.op("Transpose", [name], {"perm": [0, 3, 1, 2]})
