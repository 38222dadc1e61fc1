"""Fill what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from modelmill.contracts import Array, Column, Preparation
from modelmill.fragment import Writer
from modelmill.prepare.block import join, of_kind, values, without


class Impute(Preparation):
    """Missing numbers become a figure of their column, missing categories one of their own or the most frequent.

    Two operations for all numbers together. A column that is missing in every training row becomes `constant`.
    """

    numbers: Literal["median", "mean", "constant"] = "median"
    """What a missing number becomes."""
    constant: float = 0.0
    """The value of `numbers = "constant"`."""
    categories: Literal["own", "frequent"] = "own"
    """Whether a missing category stays a category of its own, or becomes the most frequent one."""
    indicator: bool = False
    """Whether a column of 0 and 1 is added for every column with gaps in training: 1 where the value was missing."""

    def __call__(self, columns: Sequence[Column], writer: Writer) -> Sequence[Column]:
        """Number blocks become one block; categories are changed only where the most frequent is wanted."""
        rest = list(columns)
        blocks = of_kind(columns, "number")
        filled = self._numbers(join(blocks, writer), writer) if blocks else []
        rest = without(rest, blocks)
        if self.categories == "frequent":
            rest = [_frequent(column, writer) if column.kind == "category" else column for column in rest]
        return [*filled, *rest]

    def _numbers(self, block: Column, writer: Writer) -> list[Column]:
        found = values(block)
        missing = writer.op("IsNaN", [block.name])
        name = writer.op("Where", [missing, writer.constant(self._figures(found)), block.name])
        gaps = np.flatnonzero(np.isnan(found).any(axis=0))
        filled = [Column(name, "number", block.labels)]
        if self.indicator and len(gaps):
            flags = writer.op("Cast", [writer.op("Gather", [missing, writer.constant(gaps)], {"axis": 1})], {"to": 1})
            filled.append(Column(flags, "number", tuple(f"{block.labels[i]} missing" for i in gaps)))
        return filled

    def _figures(self, found: Array) -> Array:
        """What a gap becomes, for every column of a block: (width,) float32."""
        constant = np.full(found.shape[1], self.constant, np.float32)
        known = ~np.isnan(found).all(axis=0)
        if self.numbers == "constant" or not known.any():
            return constant
        figure = np.nanmedian if self.numbers == "median" else np.nanmean
        constant[known] = figure(found[:, known].astype(np.float64), axis=0)
        return constant


def _frequent(column: Column, writer: Writer) -> Column:
    counts = Counter(label for label in values(column).tolist() if label != "")
    if not counts:
        return column
    first = min(counts, key=lambda label: (-counts[label], label))
    missing = writer.op("Equal", [column.name, writer.constant(np.array([""], object))])
    name = writer.op("Where", [missing, writer.constant(np.array([first], object)), column.name])
    return Column(name, "category", column.labels)
