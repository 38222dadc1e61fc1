"""Fair shares: whose turn it is, by start-time fair queueing over payers.

Every payer has a clock that runs on by what its rows cost, divided by its weight; the one whose clock is furthest
behind is next. A payer that comes back after a pause starts from the others' time, so that nobody saves up. Alone, one
gets everything. Costs are predicted milliseconds, corrected when a run has ended.

Goyal, Vin, Cheng (1996), Start-time fair queueing: https://doi.org/10.1145/248156.248171
"""

from __future__ import annotations

from collections.abc import Iterator

from modelmill.serve.engine.batch import Piece
from modelmill.serve.engine.line import Bucket, Line

TURN = 8
"""Of so many turns of a payer, one goes to whoever has waited longest, whatever its priority."""
KEPT = 1024
"""How many idle payers are remembered before those without debt are forgotten."""


class Payer:
    """Somebody whose requests wait; it keeps its lines, and how far it is ahead of its share."""

    __slots__ = ("clock_ms", "lines", "name", "turns", "waiting", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 1.0
        self.clock_ms = 0.0
        self.lines: dict[Bucket, Line] = {}
        """The lines in which something waits."""
        self.waiting = 0
        """Jobs that wait, wholly or in part."""
        self.turns = 0

    def choose(self) -> Piece:
        """The piece that is next: by priority, then by what is due first; now and then the one that came first."""
        self.turns += 1
        if self.turns % TURN == 0 and self._is_mixed():
            return min((piece for line in self.lines.values() for piece in line.pieces), key=_age)
        if len(self.lines) == 1:
            (line,) = self.lines.values()
            return line.pieces[0]
        return min((line.pieces[0] for line in self.lines.values()), key=_key)

    def _is_mixed(self) -> bool:
        ends = [piece.job.level for line in self.lines.values() for piece in (line.pieces[0], line.pieces[-1])]
        return min(ends) != max(ends)


def _age(piece: Piece) -> tuple[int, int]:
    return piece.job.number, piece.index


def _key(piece: Piece) -> tuple[float, float, int, int]:
    return piece.key


class Shares:
    """The payers, and the time that they share; it changes with every request and run."""

    def __init__(self) -> None:
        self.payers: dict[str, Payer] = {}
        self.active: set[Payer] = set()
        """Those for whom something waits."""
        self.now_ms = 0.0
        """The clock of the payer that was served last."""
        self.latest_ms = 0.0
        """The clock that is furthest ahead."""

    def payer(self, name: str, weight: float) -> Payer:
        """The payer of that name, with the weight that it has now."""
        found = self.payers.get(name)
        if found is None:
            if len(self.payers) >= KEPT:
                self._forget()
            found = self.payers[name] = Payer(name)
        found.weight = max(weight, 1e-6)
        return found

    def add(self, payer: Payer, bucket: Bucket, pieces: list[Piece]) -> None:
        """Let a job's pieces wait."""
        if payer not in self.active:
            if not self.active:
                self.now_ms = self.latest_ms
            self.active.add(payer)
            payer.clock_ms = max(payer.clock_ms, self.now_ms)
        line = payer.lines.get(bucket)
        if line is None:
            line = payer.lines[bucket] = bucket.lines[payer] = Line(bucket, payer)
        for piece in pieces:
            line.add(piece)
        payer.waiting += 1

    def remove(self, piece: Piece) -> None:
        """Take a waiting piece out."""
        line = piece.line
        if line is None:
            return
        line.remove(piece)
        payer = line.payer
        payer.waiting -= not piece.job.is_waiting
        if not line.pieces:
            del payer.lines[line.bucket], line.bucket.lines[payer]
            if not payer.lines:
                self.active.discard(payer)

    def next(self) -> Payer | None:
        """The payer whose turn it is."""
        if len(self.active) <= 1:
            return next(iter(self.active), None)
        return min(self.active, key=_clock)

    def charge(self, payer: Payer, cost_ms: float) -> None:
        """Let a payer's clock run on."""
        payer.clock_ms += cost_ms / payer.weight
        self.latest_ms = max(self.latest_ms, payer.clock_ms)

    def lines(self) -> Iterator[Line]:
        """All lines in which something waits."""
        for payer in self.active:
            yield from payer.lines.values()

    def part(self, payer: Payer) -> float:
        """The part of the machine that is a payer's while those who wait now wait."""
        total = sum(other.weight for other in self.active if other is not payer) + payer.weight
        return payer.weight / total

    def _forget(self) -> None:
        self.payers = {
            name: payer for name, payer in self.payers.items() if payer in self.active or payer.clock_ms > self.now_ms
        }


def _clock(payer: Payer) -> float:
    return payer.clock_ms
