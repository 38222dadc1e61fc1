"""Bring the channels of sequences to one scale, and steps last."""

from __future__ import annotations

from collections import abc
from typing import Literal

import numpy as np

from modelmill.contracts import Array, Column, Preparation
from modelmill.errors import ContentError
from modelmill.fragment import Writer
from modelmill.prepare.block import join, of_kind, values, without

RAW = ("image", "sequence")
"""Kinds of columns that come as whole arrays."""


class Sequence(Preparation):
    """Sequences as (rows, channels, steps) float32, from raw arrays or from columns of numbers.

    Raw arrays are (rows, steps, channels), or as `steps` says; an image of one channel is its rows of pixels, one after
    the other. Numbers side by side are the steps of one channel.
    """

    by: Literal["standard", "minmax", "none"] = "standard"
    """Every channel to mean 0 and deviation 1, or to 0-1, or as it is."""
    steps: Literal["first", "last"] = "first"
    """Whether the steps of a raw array come before its channels or behind them."""

    def __call__(self, columns: abc.Sequence[Column], writer: Writer) -> abc.Sequence[Column]:
        """Arrays of steps and channels become sequences, and so do all numbers together."""
        blocks = of_kind(columns, "number")
        found = [self._scaled(join(blocks, writer), writer)] if blocks else []
        rest = without(columns, blocks)
        return [*found, *(self._scaled(column, writer) if column.kind in RAW else column for column in rest)]

    def _scaled(self, column: Column, writer: Writer) -> Column:
        found = values(column)
        if found.ndim > 3:
            message = f"has the shape {found.shape[1:]} a row, expected (steps, channels)"
            raise ContentError("prepare/sequence", message, "Give arrays of (rows, steps, channels).")
        name = column.name if found.dtype == np.float32 else writer.op("Cast", [column.name], {"to": 1})
        if found.ndim == 2:
            name = writer.op("Reshape", [name, writer.constant([-1, 1, found.shape[1]], np.int64)])
        elif self.steps == "first":
            name = writer.op("Transpose", [name], {"perm": [0, 2, 1]})
        else:
            found = found.transpose(0, 2, 1)
        if self.by != "none":
            shift, factor = self._fit(found.reshape(-1, found.shape[2] if found.ndim == 3 else 1))
            name = writer.op("Sub", [name, writer.constant(shift.reshape(-1, 1).astype(np.float32))])
            name = writer.op("Mul", [name, writer.constant(factor.reshape(-1, 1).astype(np.float32))])
        return Column(name, "sequence", column.labels)

    def _fit(self, by_channel: Array) -> tuple[Array, Array]:
        """Shift and factor of every channel: (channels,) each."""
        found = by_channel.astype(np.float64)
        if self.by == "minmax":
            shift = np.nanmin(found, axis=0)
            spread = np.nanmax(found, axis=0) - shift
        else:
            shift, spread = np.nanmean(found, axis=0), np.nanstd(found, axis=0)
        return shift, 1 / np.where(spread > 1e-9 * np.maximum(np.abs(shift), 1e-21), spread, 1)
