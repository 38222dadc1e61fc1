"""Arrays of small symbols in the payload, with the table that they were coded by in the head."""

from __future__ import annotations

import numpy as np

from modelmill.store.packing import ans
from modelmill.store.packing.flow import Array, Source, Tail, number

FINE, COARSE = ans.TOTAL - 1, 127
"""The largest stated count, of many symbols and of few: a count then takes a byte or two."""
FEW = 1 << 14


def cost(counts: Array) -> float:
    """How many bytes symbols that came so often take, with their table: the entropy.

    >>> cost(np.array([4096, 4096]))
    1030.0
    """
    present = counts[counts > 0]
    total = int(present.sum())
    return float(-(present * np.log2(present / total)).sum() / 8 + 3 * len(present)) if total else 0.0


def put(symbols: Array, counts: Array, head: bytearray, tail: Tail) -> None:
    """Write symbols (n,) uint8 that come so often: (symbols,)."""
    stated = _stated(counts)
    present = np.flatnonzero(stated)
    head += number(len(present))
    for gap, count in zip(np.diff(present, prepend=0), stated[present], strict=True):
        head += number(int(gap)) + number(int(count))
    if len(present) > 1:
        ans.encode(symbols, ans.table(stated[None]), tail)


def get(count: int, head: Source, payload: Source) -> Array:
    """Read `count` symbols, (count,) uint8."""
    stated, symbol = np.zeros(256, np.int64), 0
    present = head.number(256)
    for _ in range(present):
        symbol += head.number(255 - symbol)
        stated[symbol] = max(head.number(FINE), 1)
    if present > 1:
        return ans.decode(count, ans.table(stated[None]), payload)
    return np.full(count, symbol, np.uint8)


def _stated(counts: Array) -> Array:
    """Counts up to a bound, none of them lost."""
    bound = COARSE if counts.sum() < FEW else FINE
    scaled = np.asarray(counts, np.int64) * bound // max(int(counts.max(initial=1)), 1)
    return np.maximum(scaled, counts > 0)
