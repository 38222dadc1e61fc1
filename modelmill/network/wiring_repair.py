"""Mends a wiring: every node on a way from the input to the output, and no more edges than are allowed."""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.network.wiring import IDENTITY, Wiring
from modelmill.network.wiring_order import ordered


def canonical(wiring: Wiring, most: int = 0) -> Wiring:
    """The repaired wiring in its one order: equal for two wirings that are the same graph, and for no others.

    >>> first = Wiring(("max", "conv3"), ((0,), (0,), (1, 2)))
    >>> canonical(first) == canonical(Wiring(("conv3", "max"), ((0,), (0,), (1, 2))))
    True
    """
    return ordered(repair(wiring, most))


def repair(wiring: Wiring, most: int = 0) -> Wiring:
    """A wiring that can be built: no identities, and every node on a way from the input to the output.

    Edges that go back are cut. A node that reads nothing reads the input, and what nobody reads the output reads.
    most: edges that stay at most; shortcuts go first, then nodes; 0 is no limit. Repairing again changes nothing.

    >>> repair(Wiring(("conv3", "conv1", "identity"), ((0,), (), (1,), (3,))))
    Wiring(operations=('conv3', 'conv1'), reads=((0,), (0,), (1, 2)))
    """
    mended = _joined(_without_identities(_forward(wiring)))
    if not most or mended.edges <= most:
        return mended
    # In one order, so that of equal graphs the same edges go.
    while mended.edges > most:
        mended = _thinner(ordered(mended))
    return mended


def _forward(wiring: Wiring) -> Wiring:
    """Edges from earlier values alone."""
    rows = (tuple(i for i in row if 0 <= i <= node) for node, row in enumerate(wiring.reads))
    return Wiring(wiring.operations, tuple(rows))


def _without_identities(wiring: Wiring) -> Wiring:
    """Readers of an identity read what it reads."""
    stands_for = [frozenset({0})]
    rows = []
    for node, row in enumerate(wiring.reads):
        found = frozenset[int]().union(*(stands_for[i] for i in row))
        rows.append(tuple(found))
        passes = node < len(wiring.operations) and wiring.operations[node] == IDENTITY
        stands_for.append(found if passes else frozenset({node + 1}))
    kept = [node for node, name in enumerate(wiring.operations) if name != IDENTITY]
    return _only(Wiring(wiring.operations, tuple(rows)), kept)


def _only(wiring: Wiring, nodes: Sequence[int]) -> Wiring:
    """Those nodes (0 is the first), numbered anew; what the others make is read no more."""
    number = {0: 0, **{node + 1: place + 1 for place, node in enumerate(nodes)}}
    rows = [*(wiring.reads[node] for node in nodes), wiring.reads[-1]]
    return Wiring(
        tuple(wiring.operations[node] for node in nodes),
        tuple(tuple(sorted(number[i] for i in row if i in number)) for row in rows),
    )


def _joined(wiring: Wiring) -> Wiring:
    """With every node read, and reading; without nodes the output reads the input."""
    rows = [row or (0,) for row in wiring.reads[:-1]]
    read = {i for row in rows for i in row}
    end = {*wiring.reads[-1], *(i for i in range(1, len(wiring.reads)) if i not in read)}
    return Wiring(wiring.operations, (*rows, tuple(sorted(end or {0}))))


def _thinner(wiring: Wiring) -> Wiring:
    """Without the last edge that no node needs, else without one that takes a node with it.

    Of a chain, the last node goes.
    """
    places = [(node, i) for node, row in enumerate(wiring.reads) for i in row if len(row) > 1]
    cuts = [_read(_without(wiring, *place)) for place in reversed(places)]
    whole = [cut for cut in cuts if len(cut.operations) == len(wiring.operations)]
    return (whole or cuts or [Wiring(wiring.operations[:-1], wiring.reads[:-1])])[0]


def _without(wiring: Wiring, reader: int, value: int) -> Wiring:
    row = tuple(i for i in wiring.reads[reader] if i != value)
    return Wiring(wiring.operations, (*wiring.reads[:reader], row, *wiring.reads[reader + 1 :]))


def _read(wiring: Wiring) -> Wiring:
    """The nodes whose values reach the output."""
    wanted = set(wiring.reads[-1])
    for node in reversed(range(len(wiring.operations))):
        if node + 1 in wanted:
            wanted.update(wiring.reads[node])
    return _only(wiring, [node for node in range(len(wiring.operations)) if node + 1 in wanted])
