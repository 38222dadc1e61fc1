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
    """How often each value occurs, how often all others do, and how many new values as many rows more would bring.

    Where there are more than `most`, every second row says which are the most frequent, and the others are counted:
    a value that is picked by the rows that it is counted in seems more frequent than it is.

    >>> tally(np.array(["a", "b", "a", "c"]))
    {'counts': {'a': 2, 'b': 1, 'c': 1}, 'rest': 0, 'unseen': 2}
    >>> tally(np.array(["a", "b", "a", "c"]), most=1)
    {'counts': {'a': 0}, 'rest': 2, 'unseen': 2}

    Good (1953), The population frequencies of species, https://doi.org/10.1093/biomet/40.3-4.237
    """
    found = _counter(values)
    if len(found) <= most:
        once = sum(count == 1 for count in found.values())
        return {"counts": dict(sorted(found.items())), "rest": 0, "unseen": once}
    ordered = sorted(_counter(values[::2]).items(), key=lambda item: (-item[1], item[0]))
    others = _counter(values[1::2])
    kept = {name: others[name] for name, _ in ordered[:most]}
    rest = others.total() - sum(kept.values())
    return {"counts": kept, "rest": rest, "unseen": rest}


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

    Which are put together depends on the sums and names alone: it must not favor a difference.
    """
    order = sorted(cells, key=lambda name: (sum(cells[name]), name or ""))
    table = np.array([cells[name] for name in order], dtype=np.int64).reshape(-1, 2)
    smaller = table.sum(axis=0).min() / max(1, table.sum())
    expected = table.sum(axis=1) * smaller
    rare = int(np.searchsorted(expected, fewest))
    enough = int(np.searchsorted(np.cumsum(expected), fewest)) + 1
    together = max(rare, min(enough, len(table)))
    return np.concatenate([table[:together].sum(axis=0, keepdims=True), table[together:]])
