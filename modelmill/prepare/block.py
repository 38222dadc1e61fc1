"""What the steps share: telling columns apart, and joining blocks of numbers into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelmill.contracts import Array, Column
from modelmill.fragment import Writer


def of_kind(columns: Sequence[Column], kind: str) -> list[Column]:
    """The columns of that kind, in order."""
    return [column for column in columns if column.kind == kind]


def without(columns: Sequence[Column], taken: Sequence[Column]) -> list[Column]:
    """The columns that are not among `taken`, in order."""
    names = {column.name for column in taken}
    return [column for column in columns if column.name not in names]


def join(blocks: Sequence[Column], writer: Writer) -> Column:
    """One (rows, width) float32 block of several, side by side."""
    if len(blocks) == 1:
        return blocks[0]
    name = writer.op("Concat", [block.name for block in blocks], {"axis": 1})
    labels = tuple(label for block in blocks for label in block.labels)
    return Column(name, "number", labels, np.concatenate([values(block) for block in blocks], axis=1))


def values(column: Column) -> Array:
    """The training rows of a column, which the chain has filled in."""
    assert column.values is not None, "the chain fills in values before a step sees them"
    return column.values


def is_flags(block: Column) -> bool:
    """Whether a block holds nothing but 0 and 1, as one-hot columns do."""
    found = values(block)
    return bool(((found == 0) | (found == 1)).all())
