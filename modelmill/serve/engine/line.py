"""Who waits: the pieces of one payer in one bucket, in their order."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from operator import attrgetter

from modelmill.serve.engine.batch import Key, Piece
from modelmill.serve.engine.lane import Bucket
from modelmill.serve.engine.payer import Payer

KEY: Callable[[Piece], Key] = attrgetter("key")


class Line:
    """The pieces of one payer that wait in one bucket, the most urgent first."""

    __slots__ = ("bucket", "payer", "pieces", "rows")

    def __init__(self, bucket: Bucket, payer: Payer) -> None:
        self.bucket = bucket
        self.payer = payer
        self.pieces: list[Piece] = []
        self.rows = 0

    def add(self, piece: Piece) -> None:
        """Let a piece wait."""
        pieces = self.pieces
        if pieces and piece.key < pieces[-1].key:
            insort(pieces, piece, key=KEY)
        else:
            pieces.append(piece)
        self.rows += piece.rows
        piece.waits = True
        piece.job.waits += 1

    def remove(self, piece: Piece) -> None:
        """Take a piece out of the line."""
        pieces = self.pieces
        at = 0 if pieces[0] is piece else bisect_left(pieces, piece.key, key=KEY)
        del pieces[at]
        self.rows -= piece.rows
        piece.waits = False
        piece.job.waits -= 1

    @property
    def work_ms(self) -> float:
        """What all that waits here will take on one thread."""
        return self.bucket.work_ms(self.rows, len(self.pieces))

    def before(self, key: Key) -> tuple[int, int]:
        """The rows and the pieces that will run before a piece with such a key."""
        pieces = self.pieces
        if pieces[-1].key < key:
            return self.rows, len(pieces)
        at = bisect_left(pieces, key, key=KEY)
        return sum(piece.rows for piece in pieces[:at]), at
