"""A table as it was read from a file, which can say where each of its rows stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from modelmill.finding import Finding


@dataclass(frozen=True, eq=False)
class Rows:
    """A pyarrow table with unique column names, where it comes from, and the place of every row."""

    table: Any
    origin: str
    place: Callable[[int], str]
    """Row number from 0 to words such as `sales.csv line 17`."""
    findings: tuple[Finding, ...] = ()
    is_text: bool = False
    """Whether the rows come from text, in which dates are to be found."""

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [str(name) for name in self.table.column_names]


def join(parts: Sequence[Rows], origin: str) -> Rows:
    """The rows of several parts of one table, one after the other; a column may be wider typed in one of them."""
    import pyarrow

    if len(parts) == 1:
        return replace(parts[0], origin=origin)
    table = pyarrow.concat_tables([part.table for part in parts], promote_options="permissive")
    starts = [0, *accumulate(part.table.num_rows for part in parts)]

    def place(row: int) -> str:
        part = max(i for i in range(len(parts)) if starts[i] <= row)
        return parts[part].place(row - starts[part])

    return Rows(table, origin, place, parts[0].findings, parts[0].is_text)
