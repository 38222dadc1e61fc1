"""Counts of categories: how often each of the most frequent values occurs, and how often all others do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.contracts import Array

MOST = 100
"""So many values are counted one by one."""


def tally(values: Array, most: int = MOST) -> dict[str, Any]:
    """The counts of the most frequent values, of the rest together, and of values that occur once.

    >>> tally(np.array(["a", "b", "a", "c"]), most=2)
    {'counts': {'a': 2, 'b': 1}, 'rest': 1, 'once': 1}
    """
    counted = _counter(values)
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    kept = dict(ordered[:most])
    return {
        "counts": kept,
        "rest": len(values) - sum(kept.values()),
        "once": sum(count == 1 for count in kept.values()),
    }


def _counter(values: Array) -> Counter[str]:
    return Counter(map(str, values.tolist()))


def rows(state: Mapping[str, Any]) -> int:
    """How many values were counted."""
    return int(sum(state["counts"].values()) + state["rest"])


def pairs(state: Mapping[str, Any], window: Array) -> dict[str | None, tuple[int, int]]:
    """For each value its counts in the reference and in the window; None stands for all that were not kept.

    Where the reference kept every value, one that is new in the window stands for itself.
    """
    found = _counter(window)
    known: Mapping[str, int] = state["counts"]
    cells: dict[str | None, tuple[int, int]] = {name: (count, found[name]) for name, count in known.items()}
    new = {name: count for name, count in sorted(found.items()) if name not in known}
    if state["rest"]:
        return {**cells, None: (state["rest"], sum(new.values()))}
    return {**cells, **{name: (0, count) for name, count in new.items()}}


def folded(cells: Mapping[str | None, tuple[int, int]], fewest: float) -> Array:
    """(cells, 2) counts, the rarest put together until both sides may expect at least `fewest` in every cell.

    Which are put together depends on the sums alone, so that the folding does not favor a difference.
    """
    table = np.array(sorted(cells.values(), key=lambda pair: (sum(pair), pair)), dtype=np.int64).reshape(-1, 2)
    smaller = table.sum(axis=0).min() / max(1, table.sum())
    sums = np.cumsum(table.sum(axis=1)) * smaller
    first = int(np.searchsorted(sums, fewest))
    if first >= len(table):
        first = len(table) - 1
    return np.concatenate([table[: first + 1].sum(axis=0, keepdims=True), table[first + 1 :]])
