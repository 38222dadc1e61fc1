"""Which columns have gaps, and how many?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Check
from modelmill.data.columns import share, shown
from modelmill.data.table import missing
from modelmill.dataset import Splits
from modelmill.finding import Finding


class Missing(Check):
    """Missing values by column, in the training rows: some are a note, many are a warning."""

    many: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The share of missing values above which a column is worth a warning."""

    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield a warning for each column with many gaps, and a note on all others that have some."""
        data = splits.train
        shares = {
            field.name: float(np.mean(missing(data.columns[field.name], field)))
            for field in data.fields
            if field.nullable and data.rows
        }
        some = {name: part for name, part in shares.items() if 0 < part <= self.many}
        for name, part in shares.items():
            if part > self.many:
                where = f"{data.origin} column {name}"
                message = f"{share(part)} of the training rows have no value"
                yield Finding(
                    "missing", "warning", where, message, "Think of leaving it out.", {"share": round(part, 6)}
                )
        if some:
            names = shown([f"{name} {share(part)}" for name, part in sorted(some.items(), key=lambda item: -item[1])])
            message = f"missing values in {len(some)} column{'s' * (len(some) > 1)}: {names}"
            yield Finding("missing", "note", data.origin, message, "", {name: round(p, 6) for name, p in some.items()})
