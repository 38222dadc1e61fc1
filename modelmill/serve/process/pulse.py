"""Whether workers still turn their loops: one that hangs is not ready, and after a while it is given up."""

from __future__ import annotations

from collections.abc import Iterable

from modelmill.serve.process.crew import Board

BEAT_S = 1.0
"""How often a worker beats."""
QUIET_S = 5.0
"""A worker that did not beat for so long is not ready."""
HUNG_S = 30.0
"""A worker that did not beat for so long is replaced."""
LEAP_S = 1.0
"""No more than this is counted between two looks: whoever looks may have been held up itself."""


class Pulse:
    """How long each worker has been silent since it was ready; it changes with every look at the board."""

    def __init__(self, board: Board, now: float) -> None:
        self.board = board
        self.looked = now
        self.last: dict[int, int] = {}
        self.silent: dict[int, float] = {}
        self.muted: set[int] = set()
        """Those that were marked as not ready here; whoever marks itself so is not silent, but at its end."""

    def forget(self, index: int) -> None:
        """A worker has ended."""
        self.last.pop(index, None)
        self.silent.pop(index, None)
        self.muted.discard(index)

    def look(self, indices: Iterable[int], now: float) -> list[int]:
        """Those of the workers that hang; whoever has been quiet for a while is marked as not ready."""
        passed, self.looked = min(now - self.looked, LEAP_S), now
        return [index for index in indices if self._hangs(index, passed)]

    def _hangs(self, index: int, passed: float) -> bool:
        beat = self.board.beats(index)
        if beat != self.last.get(index, 0) or (not beat and index not in self.muted):
            self.forget(index)
            self.last[index] = beat
            return False
        silent = self.silent[index] = self.silent.get(index, 0.0) + passed
        if silent > QUIET_S and index not in self.muted:
            self.muted.add(index)
            self.board.mark(index, ready=False)
            self.last[index] = 0
        return silent > HUNG_S
