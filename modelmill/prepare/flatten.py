"""Lay the pixels of an image side by side, or the values of a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelmill.contracts import Column, Preparation
from modelmill.fragment import Writer
from modelmill.prepare.block import values


class Flatten(Preparation):
    """Images and sequences as columns of numbers, one a pixel or value, for bodies that take tables."""

    def __call__(self, columns: Sequence[Column], writer: Writer) -> Sequence[Column]:
        """Image and sequence columns become blocks of numbers."""
        return [_flat(column, writer) if column.kind in ("image", "sequence") else column for column in columns]


def _flat(column: Column, writer: Writer) -> Column:
    pixels = values(column)
    name = column.name if pixels.dtype == np.float32 else writer.op("Cast", [column.name], {"to": 1})
    width = int(np.prod(pixels.shape[1:]))
    name = writer.op("Reshape", [name, writer.constant([-1, width], np.int64)])
    return Column(name, "number", tuple(f"{column.labels[0]}[{i}]" for i in range(width)))
