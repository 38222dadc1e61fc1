"""Who runs together: a batch around the request whose turn it is, and when that request is given up for the others."""

from __future__ import annotations

import math

from modelmill.serve.engine.batch import Piece
from modelmill.serve.engine.lane import HOP_MS
from modelmill.serve.engine.shares import Shares

LITTLE = 0.8
"""A batch brings little if its rows a millisecond are below this part of a large one's."""


def gather(first: Piece, shares: Shares, most_rows: int, now: float) -> tuple[list[Piece], int]:
    """A batch around `first`: more of its bucket, payers in turn, while a larger one pays and all are in time.

    most_rows: no more are joined.
    """
    bucket = first.job.bucket
    chosen, rows = [first], first.rows
    most = min(bucket.enough, most_rows) if bucket.batches else 0
    if rows >= most:
        return chosen, rows
    fit = bucket.fit
    soonest = first.job.deadline
    lines = shares.buckets[bucket]
    clocks = {line: line.payer.clock_ms for line in lines.values()}
    places = dict.fromkeys(clocks, 0)
    clocks[lines[first.job.payer]] += fit.row_ms * rows / first.job.payer.weight
    while clocks:
        line = min(clocks, key=clocks.__getitem__) if len(clocks) > 1 else next(iter(clocks))
        at = places[line]
        places[line] += 1
        if at >= len(line.pieces):
            del clocks[line]
            continue
        piece = line.pieces[at]
        if piece is first or piece.job.is_done:
            continue
        sooner = min(soonest, piece.job.deadline)
        fits = rows + piece.rows <= most
        if fits and sooner < math.inf:
            fits = now + (fit.of(rows + piece.rows) * (1 + fit.spread) + HOP_MS) / 1000 <= sooner
        if not fits:
            del clocks[line]
            continue
        chosen.append(piece)
        rows += piece.rows
        soonest = sooner
        clocks[line] += fit.row_ms * piece.rows / line.payer.weight
    return chosen, rows


def must_give_way(chosen: list[Piece], rows: int, shares: Shares, most_rows: int, now: float) -> bool:
    """Whether a request that leaves time for a small batch only is given up, as it would make all others late.

    That is so where the small batch wastes much of what a large one brings, and whoever is next would then be in
    the same need: from there on every batch would be as small, and most requests lost.

    Early drop of Shen et al. (2019), Nexus, https://doi.org/10.1145/3341301.3359658
    """
    first = chosen[0]
    bucket = first.job.bucket
    if first.job.deadline == math.inf or rows >= bucket.enough or not bucket.batches:
        return False
    fit = bucket.fit
    lines = shares.buckets[bucket].values()
    rest = sum(line.rows for line in lines) - rows
    wanted = min(rest + rows, bucket.enough, most_rows)
    if wanted <= rows or rows * (fit.of(wanted) + HOP_MS) > LITTLE * wanted * (fit.of(rows) + HOP_MS):
        return False
    taken = set(map(id, chosen))
    others = (next((p for p in line.pieces if id(p) not in taken), None) for line in lines)
    soonest = min((piece.job.deadline for piece in others if piece is not None), default=math.inf)
    then_ms = fit.of(rows) + fit.of(min(rest, wanted)) * (1 + fit.spread) + 2 * HOP_MS
    return now + then_ms / 1000 > soonest
