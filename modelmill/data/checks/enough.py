"""Are there rows enough to learn from, to choose on and to judge by?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Check
from modelmill.dataset import Splits
from modelmill.finding import Finding


class Enough(Check):
    """Rows in every part of the data: a part without any is fatal, few rows are a warning."""

    few: Annotated[int, Meta(ge=1)] = 30
    """Below this many rows in a part, its figures say little."""

    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield what parts are empty or small."""
        train = splits.train
        total = train.rows + splits.valid.rows + splits.test.rows
        parts = {"training": train.rows, "validation": splits.valid.rows, "test": splits.test.rows}
        empty = [name for name, rows in parts.items() if rows == 0]
        if empty:
            yield Finding("enough", "fatal", train.origin, *_why(splits, total, empty), parts)
            return
        small = [f"{name} {rows}" for name, rows in parts.items() if rows < self.few]
        if small:
            message = f"few rows: {', '.join(small)}; quality is known only roughly"
            yield Finding("enough", "warning", train.origin, message, "Give more rows.", parts)


def _why(splits: Splits, total: int, empty: list[str]) -> tuple[str, str]:
    missing = f"nothing is left for {' and '.join(empty)}"
    if splits.train.groups is not None and total > 2:
        return f"the groups are too few to part: {missing}", "Give at least 3 groups, or leave --group out."
    if splits.train.times is not None and total > 2:
        return f"the times are too few to part: {missing}", "Give at least 3 times, or leave --time out."
    rows = "1 row" if total == 1 else f"{total} rows"
    return f"holds {rows}, too few to part: {missing}", "Give more rows that have a target, and not all the same."
