"""How the nodes of a cell are joined, as a value: what each does, and what it reads."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from modelmill.errors import SpecError

IDENTITY = "identity"
"""The operation that passes on what it reads: a skip."""


class Wiring(msgspec.Struct, frozen=True):
    """A graph without circles: value 0 is what comes in, value i what node i makes, and the output reads last.

    A node works on the sum of what it reads. An identity only passes on; a value that reaches a reader by several
    ways counts once.
    """

    operations: tuple[str, ...]
    """What every node does."""
    reads: tuple[tuple[int, ...], ...]
    """The values that every node reads, and, last, those that the output reads."""

    def __post_init__(self) -> None:
        if len(self.reads) != len(self.operations) + 1:
            found = f"{len(self.operations)} operations and {len(self.reads)} rows of edges"
            hint = "Write a row for every node, and one for the output."
            raise SpecError("arch.cell", f"{found} do not fit", hint)

    @property
    def edges(self) -> int:
        """How many edges."""
        return sum(len(row) for row in self.reads)


def wiring(operations: Sequence[str], flags: Sequence[Sequence[int]]) -> Wiring:
    """The wiring whose node i reads value j where `flags[i][j]` is 1; flags that are left out are 0."""
    return Wiring(tuple(operations), tuple(tuple(i for i, flag in enumerate(row) if flag) for row in flags))


def flags(given: Wiring) -> tuple[tuple[int, ...], ...]:
    """For every node, and the output: 1 for each earlier value that it reads, 0 for the others.

    >>> flags(Wiring(("conv3", "max"), ((0,), (0, 1), (2,))))
    ((1,), (1, 1), (0, 0, 1))
    """
    return tuple(tuple(int(i in row) for i in range(node + 1)) for node, row in enumerate(given.reads))
