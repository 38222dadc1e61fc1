"""Which columns say nothing, or only name the row?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Check
from modelmill.data.cells import Array
from modelmill.data.columns import codes, scalars, shown
from modelmill.dataset import Splits
from modelmill.finding import Finding
from modelmill.signature import Field


class Constant(Check):
    """Columns with one value in all training rows, and columns of whole numbers or text that differ in every row."""

    rows: Annotated[int, Meta(ge=2)] = 50
    """Below this many rows, values that all differ are no surprise."""
    distinct: Annotated[float, Meta(gt=0, le=1)] = 0.98
    """The share of different values above which a text names the row."""

    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield one warning for the constant columns, and one for each that names the row."""
        data = splits.train
        constant = []
        for name, field, values in scalars(data):
            if field.kind == "array":
                constant += [name] * _same(values)
                continue
            known = codes(values, field)
            different = int(known.max(initial=-1)) + 1
            if different + bool((known < 0).any()) <= 1:
                constant.append(name)
            elif data.rows >= self.rows and self._names_row(field, values, different):
                message = f"{different} different values in {len(values)} rows: it names the row, and teaches nothing"
                hint = "Leave the column out."
                yield Finding("constant", "warning", f"{data.origin} column {name}", message, hint)
        if constant:
            many = len(constant) > 1
            message = f"the same value in every training row: {shown(constant)}"
            hint = f"Leave the column{'s' * many} out: {'they teach' if many else 'it teaches'} nothing."
            yield Finding("constant", "warning", data.origin, message, hint, {"columns": constant})

    def _names_row(self, field: Field, values: Array, different: int) -> bool:
        if field.kind == "category":
            return different >= self.distinct * len(values)
        if field.datatype != "INT64" or field.kind != "number" or different < len(values):
            return False
        # Numbers without gaps and repetitions are a count of rows; a quantity would have some of either.
        return int(values.max()) - int(values.min()) < 2 * len(values)


def _same(values: Array) -> bool:
    """Whether all values are equal, a missing one being a value."""
    return bool((values == values[0]).all() or np.isnan(values).all()) if len(values) else False
