"""Where a matrix has numbers: a bit a cell, expected by how full its row and its column are.

Pruned layers have rows and columns of very different fullness. Rows and columns fall into a few levels, which are
stated; the cells of a pair of levels share one expectation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelmill.store.packing import ans, symbols
from modelmill.store.packing.flow import Array, Source, Tail, damaged, number

LEVELS = (1, 2, 4, 8)
"""How many levels are tried, for rows and for columns."""
ROUNDS = 20


class Plan(NamedTuple):
    """How a mask is written, and about how many bytes that takes."""

    rows: Array
    """The level of every row."""
    columns: Array
    ones: Array
    """Of 16384 cells of a pair of levels, how many are taken: (pairs,)."""
    cost: float


def planned(mask: Array, width: int) -> Plan:
    """The cheapest plan for a mask (n,) of rows of `width` cells, the last of which may be short."""
    height = -(-len(mask) // width)
    square = np.zeros((height, width), bool)
    square.ravel()[: len(mask)] = mask
    levels = [[_levels(square.mean(axis), count) for count in LEVELS] for axis in (1, 0)]
    plans = (_plan(square, mask, rows, columns) for rows in levels[0] for columns in levels[1])
    return min(plans, key=lambda plan: plan.cost)


def _levels(fullness: Array, count: int) -> Array:
    """Which of so many levels of fullness each is at: levels of least squared distance of square roots."""
    roots = np.sqrt(fullness)
    centers = np.quantile(roots, (np.arange(count) + 0.5) / count)
    for _ in range(ROUNDS):
        places = np.searchsorted((centers[1:] + centers[:-1]) / 2, roots)
        sums, sizes = np.bincount(places, roots, count), np.bincount(places, minlength=count)
        centers = np.sort(np.where(sizes > 0, sums / np.maximum(sizes, 1), centers))
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, roots).astype(np.uint8)


def _plan(square: Array, mask: Array, rows: Array, columns: Array) -> Plan:
    levels = int(columns.max()) + 1
    pairs = (int(rows.max()) + 1) * levels
    of_row = np.stack([square[:, columns == level].sum(1) for level in range(levels)], 1)
    taken = np.stack([np.bincount(rows, of_row[:, level], pairs // levels) for level in range(levels)], 1).ravel()
    cells = np.outer(np.bincount(rows, minlength=pairs // levels), np.bincount(columns, minlength=levels)).ravel()
    share = taken / np.maximum(cells, 1)
    ones = np.clip(np.round(share * ans.TOTAL), taken > 0, ans.TOTAL - (taken < cells)).astype(np.int64)
    bits = sum(
        symbols.cost(np.array([a, b])) - 3 * ((a > 0) + (b > 0)) for a, b in zip(taken, cells - taken, strict=True)
    )
    sides = symbols.cost(np.bincount(rows)) + symbols.cost(np.bincount(columns))
    return Plan(rows, columns, ones, bits + sides + 2 * pairs)


def put(mask: Array, plan: Plan, head: bytearray, tail: Tail) -> None:
    """Write a mask (n,) by its plan: what is read first is put last."""
    head += number(len(plan.ones))
    head += b"".join(number(int(ones)) for ones in plan.ones)
    ans.encode(mask.view(np.uint8), _table(plan.ones), tail, _contexts(len(mask), plan.rows, plan.columns))
    sides = bytearray()
    for side in (plan.columns, plan.rows):
        written = bytearray()
        symbols.put(side, np.bincount(side), written, tail)
        sides[:0] = written
    head += sides


def get(count: int, width: int, head: Source, payload: Source) -> Array:
    """Read a mask of `count` cells in rows of `width`."""
    pairs = head.number(LEVELS[-1] ** 2)
    ones = np.array([head.number(ans.TOTAL) for _ in range(pairs)], np.int64)
    rows = symbols.get(-(-count // width), head, payload)
    columns = symbols.get(width, head, payload)
    if (int(rows.max()) + 1) * (int(columns.max()) + 1) != pairs:
        raise damaged(f"{pairs} pairs of levels are stated, and others are used")
    return ans.decode(count, _table(ones), payload, _contexts(count, rows, columns)).view(bool)


def _table(ones: Array) -> ans.Table:
    return ans.table(np.stack([ans.TOTAL - ones, ones], 1))


def _contexts(count: int, rows: Array, columns: Array) -> Array:
    """The pair of levels of every cell, (count,) uint8."""
    levels = np.uint8(columns.max() + 1)
    return (rows[:, None] * levels + columns).ravel()[:count]
