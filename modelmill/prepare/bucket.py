"""Say of numbers how many bounds they are above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from modelmill.contracts import Array, Column, Preparation
from modelmill.fragment import Writer
from modelmill.prepare.block import is_flags, join, of_kind, values, without


class Bucket(Preparation):
    """Numbers cut into buckets: for every bound between two of them, a column that is 1 where the number is above it.

    A linear model then learns a step function of every column, and outliers weigh no more than their bucket. Of bounds
    that part the training rows in one way one is kept, a gap is above none of them, and blocks of 0 and 1 (one-hot
    columns) stay as they are.
    Three operations for all columns together.

    Dougherty, Kohavi & Sahami (1995), https://doi.org/10.1016/B978-1-55860-377-6.50032-3
    """

    by: Literal["quantile", "width"] = "quantile"
    """Buckets that hold as many training rows each, or that are equally wide."""
    count: Annotated[int, Meta(ge=2, le=256)] = 8
    """Buckets of a column, at most."""

    def __call__(self, columns: Sequence[Column], writer: Writer) -> Sequence[Column]:
        """Number blocks become one block of 0 and 1."""
        blocks = [block for block in of_kind(columns, "number") if not is_flags(block)]
        if not blocks:
            return columns
        block = join(blocks, writer)
        bounds = [self._bounds(column) for column in values(block).T]
        places = np.repeat(np.arange(len(bounds)), [len(each) for each in bounds])
        rest = without(columns, blocks)
        if not len(places):
            return rest
        spread = writer.op("Gather", [block.name, writer.constant(places, np.int64)], {"axis": 1})
        edges = np.concatenate(bounds).astype(np.float32)
        name = writer.op("Cast", [writer.op("Greater", [spread, writer.constant(edges)])], {"to": 1})
        labels = tuple(f"{block.labels[place]}>{edge:.6g}" for place, edge in zip(places, edges, strict=True))
        return [Column(name, "number", labels), *rest]

    def _bounds(self, column: Array) -> Array:
        """The bounds between the buckets of a column: rising, each with training rows above it and not above it."""
        known = column[np.isfinite(column)]
        if not len(known):
            return np.empty(0)
        shares = np.linspace(0, 1, self.count + 1)[1:-1]
        if self.by == "quantile":
            found = np.quantile(known, shares)
        else:
            low, high = known.min().astype(np.float64), known.max().astype(np.float64)
            found = low + (high - low) * shares
        bounds = found.astype(np.float32)
        below, first = np.unique(np.searchsorted(np.sort(known), bounds, side="right"), return_index=True)
        told: Array = bounds[first[(below > 0) & (below < len(known))]]
        return told
