"""Bring numbers to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from modelmill.contracts import Array, Column, Preparation
from modelmill.fragment import Writer
from modelmill.prepare.block import is_flags, join, of_kind, values, without

FAR = 1e6
"""Scaled values are cut here: an absurd request then gets an answer of numbers, not of NaN."""


class Scale(Preparation):
    """Numbers of comparable size: a shift and a factor for every column, three operations for all together.

    Blocks of 0 and 1 (one-hot columns) stay as they are, and so do gaps. A column that is constant in training
    becomes 0, and is not blown up where it varies later.
    """

    by: Literal["standard", "minmax", "robust", "none"] = "standard"
    """To mean 0 and deviation 1; to 0-1; by median and quartiles, which outliers do not move; or not at all."""

    def __call__(self, columns: Sequence[Column], writer: Writer) -> Sequence[Column]:
        """Number blocks become one block."""
        blocks = [block for block in of_kind(columns, "number") if not is_flags(block)]
        if self.by == "none" or not blocks:
            return columns
        block = join(blocks, writer)
        shift, factor = self._fit(values(block).astype(np.float64))
        name = writer.op("Sub", [block.name, writer.constant(shift.astype(np.float32))])
        name = writer.op("Mul", [name, writer.constant(factor.astype(np.float32))])
        name = writer.op("Clip", [name, writer.constant(np.float32(-FAR)), writer.constant(np.float32(FAR))])
        return [Column(name, "number", block.labels), *without(columns, blocks)]

    def _fit(self, found: Array) -> tuple[Array, Array]:
        """Shift and factor of every column: (width,) each."""
        known = ~np.isnan(found).all(axis=0)
        shift, spread = np.zeros(found.shape[1]), np.ones(found.shape[1])
        if known.any():
            shift[known], spread[known] = _figures(found[:, known], self.by)
        # What rounding leaves of a constant column is no spread.
        flat = ~(spread > 1e-9 * np.abs(shift)) | ~(spread > 1e-30)
        spread[flat] = np.where(np.abs(shift[flat]) > 1, np.abs(shift[flat]), 1)
        return shift, 1 / spread


def _figures(found: Array, by: str) -> tuple[Array, Array]:
    if by == "standard":
        return np.nanmean(found, axis=0), np.nanstd(found, axis=0)
    low, middle, high = np.nanpercentile(found, [0, 50, 100] if by == "minmax" else [25, 50, 75], axis=0)
    if by == "minmax":
        return low, high - low
    # Where more than half of the rows are equal the quartiles say nothing: the deviation does.
    spread = np.where(high > low, high - low, np.nanstd(found, axis=0))
    return middle, spread
