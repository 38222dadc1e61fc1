"""Turn categories into columns of 0 and 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Column, Preparation
from modelmill.fragment import ML, Writer
from modelmill.prepare.block import values, without


class Onehot(Preparation):
    """One column of 0 and 1 for every category of a column; a category that training never saw is all zeros.

    One operation a column. A missing value ("") that occurs in training is a category like any other.
    """

    max_categories: Annotated[int, Meta(ge=1, le=10000)] = 50
    """The most frequent categories that get a column; ties go to the first in the alphabet."""
    min_count: Annotated[int, Meta(ge=1)] = 1
    """Training rows that a category needs to get a column."""

    def __call__(self, columns: Sequence[Column], writer: Writer) -> Sequence[Column]:
        """Category columns become blocks of numbers."""
        texts = [column for column in columns if column.kind == "category"]
        made = [self._block(column, writer) for column in texts]
        return [*without(columns, texts), *(block for block in made if block is not None)]

    def _block(self, column: Column, writer: Writer) -> Column | None:
        kept = self._categories(column)
        if not kept:
            return None
        name = writer.op("OneHotEncoder", [column.name], {"cats_strings": kept, "zeros": 1}, domain=ML)
        return Column(name, "number", tuple(f"{column.labels[0]}={label or 'missing'}" for label in kept))

    def _categories(self, column: Column) -> list[str]:
        counts = Counter(values(column).tolist())
        frequent = sorted((label for label in counts if counts[label] >= self.min_count), key=lambda x: (-counts[x], x))
        return sorted(frequent[: self.max_categories])
