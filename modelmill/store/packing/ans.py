"""An entropy coder for small symbols: asymmetric numeral systems in many lanes, a step of all of them at once.

A symbol of which a table expects f in 16384 takes log2(16384 / f) bits. Symbol i goes through lane i modulo the number
of lanes. The lanes start from the bytes that follow in the file, and these come back when all symbols are read: so many
lanes cost nothing.

Duda (2013), https://arxiv.org/abs/1311.2540; Giesen (2014), https://arxiv.org/abs/1402.3392 (lanes)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelmill.store.packing.flow import Array, Source, Tail, damaged

BITS = 14
TOTAL = 1 << BITS
LOWEST = 1 << 16
"""States lie from here up to 2**32; below, 16 more bits are read."""
STEPS = 2048
"""More symbols a lane than these make more lanes, as long as there are."""
LANES = 1 << 14
"""The most lanes there are."""


@dataclass(frozen=True, eq=False)
class Table:
    """How often each symbol is expected in each context, of 16384: (contexts, symbols); every row sums to that."""

    frequencies: Array

    @property
    def starts(self) -> Array:
        """What the symbols before it come to: (contexts, symbols)."""
        return (np.cumsum(self.frequencies, 1) - self.frequencies).astype(np.uint32)

    @property
    def slots(self) -> tuple[Array, Array, Array]:
        """For each of the 16384 places of a context its symbol, how often that is expected, and the place within it."""
        contexts, symbols = self.frequencies.shape
        often = self.frequencies.ravel()
        symbol = np.repeat(np.tile(np.arange(symbols, dtype=np.uint8), contexts), often)
        place = np.tile(np.arange(TOTAL, dtype=np.uint32), contexts) - np.repeat(self.starts.ravel(), often)
        return symbol, np.repeat(often, often), place


def table(counts: Array) -> Table:
    """The table of how often symbols came, (contexts, symbols): what came is expected at least once in 16384.

    >>> table(np.array([[3, 0, 1]])).frequencies.tolist()
    [[12288, 0, 4096]]
    """
    counts = np.asarray(counts, np.int64)
    sums = counts.sum(1, keepdims=True)
    counts = np.where(sums > 0, counts, 1)  # a context that never comes expects all alike
    present = counts > 0
    frequencies = present + counts * (TOTAL - present.sum(1, keepdims=True)) // counts.sum(1, keepdims=True)
    rows, most = np.arange(len(counts)), frequencies.argmax(1)
    frequencies[rows, most] += TOTAL - frequencies.sum(1)
    return Table(frequencies.astype(np.uint32))


def encode(symbols: Array, table: Table, tail: Tail, contexts: Array | None = None) -> None:
    """Put symbols (n,) before what the tail holds; contexts (n,) are rows of the table, else it is the first."""
    lanes, width = lanes_of(len(symbols)), table.frequencies.shape[1]
    frequencies, starts = table.frequencies.ravel(), table.starts.ravel()
    states = np.frombuffer(tail.take(2 * lanes), "<u2").astype(np.uint32) + np.uint32(LOWEST)
    words = []
    for first in reversed(range(0, len(symbols), lanes)):
        places = symbols[first : first + lanes].astype(np.intp)
        if contexts is not None:
            places += contexts[first : first + lanes].astype(np.intp) * width
        frequency, state = frequencies[places], states[: len(places)]
        full = (state >> (32 - BITS) >= frequency).nonzero()[0]
        words.append(state[full].astype("<u2"))
        state[full] >>= 16
        whole, rest = np.divmod(state, frequency)
        states[: len(places)] = (whole << BITS) + rest + starts[places]
    tail.put(np.concatenate(words[::-1]).tobytes())
    tail.put(states.astype("<u4").tobytes())


def decode(count: int, table: Table, source: Source, contexts: Array | None = None) -> Array:
    """The next `count` symbols of the source, (count,) uint8. Raises StorageError where they are damaged."""
    lanes = lanes_of(count)
    symbol, often, place = table.slots
    states = source.array("<u4", lanes).astype(np.uint32)
    slots = np.zeros(count, np.uint32) if contexts is None else contexts.astype(np.uint32) << BITS
    for first in range(0, count, lanes):
        slot, state = slots[first : first + lanes], states[: count - first]
        slot += state & (TOTAL - 1)
        state >>= BITS
        state *= often[slot]
        state += place[slot]
        short = (state < LOWEST).nonzero()[0]
        if len(short):
            state[short] = (state[short] << 16) | source.array("<u2", len(short))
    if (states >> 16 != 1).any():
        raise damaged("its symbols do not end where they began")
    source.put_back(states.astype("<u2").tobytes())
    return symbol[slots]


def lanes_of(count: int) -> int:
    """How many lanes so many symbols go through: a power of two, and more for more symbols.

    >>> lanes_of(100), lanes_of(266_200), lanes_of(10**9)
    (1, 256, 16384)
    """
    lanes = 1
    while lanes < LANES and lanes * STEPS < count:
        lanes *= 2
    return lanes
