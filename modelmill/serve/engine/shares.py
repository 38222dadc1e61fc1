"""Fair shares: whose turn it is, by start-time fair queueing over payers.

Every payer has a clock that runs on by what its rows cost, divided by its weight; the one whose clock is furthest
behind is next. A payer that comes back after a pause starts from the others' time, so that nobody saves up. Alone, one
gets everything. Costs are predicted milliseconds, corrected when a run has ended.

Goyal, Vin, Cheng (1996), Start-time fair queueing: https://doi.org/10.1145/248156.248171
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from modelmill.serve.engine.batch import Piece
from modelmill.serve.engine.lane import Bucket
from modelmill.serve.engine.line import Line
from modelmill.serve.engine.payer import Payer

TURN = 8
"""Of so many turns of a payer, one goes to whoever has waited longest, whatever its priority."""
KEPT = 1024
"""How many idle payers are remembered before those without debt are forgotten."""


class Shares:
    """The payers, their lines, and the time that they share; it changes with every request and run."""

    def __init__(self) -> None:
        self.payers: dict[str, Payer] = {}
        self.active: dict[Payer, dict[Bucket, Line]] = {}
        """Those for whom something waits, and the lines in which it does."""
        self.buckets: dict[Bucket, dict[Payer, Line]] = {}
        """The same lines by bucket."""
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
        lines = self.active.get(payer)
        if lines is None:
            if not self.active:
                self.now_ms = self.latest_ms
            lines = self.active[payer] = {}
            payer.clock_ms = max(payer.clock_ms, self.now_ms)
        line = lines.get(bucket)
        if line is None:
            line = lines[bucket] = self.buckets.setdefault(bucket, {})[payer] = Line(bucket, payer)
            bucket.waiting += 1
        for piece in pieces:
            line.add(piece)
        payer.waiting += 1

    def remove(self, piece: Piece) -> None:
        """Take a waiting piece out."""
        if not piece.waits:
            return
        payer, bucket = piece.job.payer, piece.job.bucket
        line = self.active[payer][bucket]
        line.remove(piece)
        payer.waiting -= not piece.job.waits
        if not line.pieces:
            self._close(line)

    def _close(self, line: Line) -> None:
        """Forget a line in which nothing waits any more."""
        payer, bucket = line.payer, line.bucket
        del self.active[payer][bucket], self.buckets[bucket][payer]
        bucket.waiting -= 1
        if not bucket.waiting:
            del self.buckets[bucket]
        if not self.active[payer]:
            del self.active[payer]

    def next(self) -> Payer | None:
        """The payer whose turn it is."""
        if len(self.active) <= 1:
            return next(iter(self.active), None)
        return min(self.active, key=_clock)

    def choose(self, payer: Payer) -> Piece:
        """A payer's next piece: by priority, then by what is due first; now and then the one that came first."""
        lines = self.of(payer)
        if payer.turns % TURN == TURN - 1 and _is_mixed(lines):
            return min((piece for line in lines for piece in line.pieces), key=_age)
        if len(lines) == 1:
            (line,) = lines
            return line.pieces[0]
        return min((line.pieces[0] for line in lines), key=_key)

    def charge(self, payer: Payer, cost_ms: float) -> None:
        """Let a payer's clock run on."""
        payer.clock_ms += cost_ms / payer.weight
        self.latest_ms = max(self.latest_ms, payer.clock_ms)

    def of(self, payer: Payer) -> Collection[Line]:
        """The lines in which something of a payer waits."""
        return self.active.get(payer, {}).values()

    def lines(self) -> Iterator[Line]:
        """All lines in which something waits."""
        for lines in self.active.values():
            yield from lines.values()

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


def _is_mixed(lines: Collection[Line]) -> bool:
    """Whether pieces of several priorities wait."""
    ends = [piece.job.level for line in lines for piece in (line.pieces[0], line.pieces[-1])]
    return min(ends) != max(ends)


def _age(piece: Piece) -> tuple[int, int]:
    return piece.job.number, piece.index


def _key(piece: Piece) -> tuple[float, float, int, int]:
    return piece.key
