"""When a request that has just come would be answered: what it would wait for, and what it takes itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from modelmill.serve.engine.batch import Job, Key
from modelmill.serve.engine.lane import HOP_MS, Bucket
from modelmill.serve.engine.line import Line
from modelmill.serve.engine.shares import Shares


class Forecast(NamedTuple):
    """A prediction in milliseconds from now: how long a job waits, and how long its own run takes."""

    wait_ms: float
    own_ms: float

    @property
    def total_ms(self) -> float:
        """When the answer would be there."""
        return self.wait_ms + self.own_ms


def forecast(job: Job, shares: Shares, under_way_ms: float, threads: int) -> Forecast:
    """What can be said of a job that would take its place in the queue now.

    under_way_ms: what the runs under way will still take, in all.

    Of what waits, the payer's own work of the same or higher urgency goes before, at the payer's part of the machine;
    but never more than everything. Rows that would share the job's run are not waited for. Work spreads over the
    threads: one of them is free at the latest after the mean of what is before. The usual error of a run counts the
    more, the more waits: where little does, to refuse what might still be in time would bring nobody anything.
    """
    payer, bucket = job.payer, job.bucket
    own, riders = _before(shares.of(payer), job.key, bucket)
    waits = own
    if len(shares.active) > (payer in shares.active):
        others = sum(line.work_ms for line in shares.lines() if line.payer is not payer)
        waits = min(own / shares.part(payer), own + others)
    fit = bucket.fit
    rows = job.rows
    rounds = 1
    if bucket.batches:
        rows = max(min(rows, bucket.most), min(bucket.enough, rows + riders))
        rounds = math.ceil(job.rows / bucket.most / threads) or 1
    own_ms = (fit.of(rows) + HOP_MS) * rounds
    own_ms *= 1 + fit.spread * min(1.0, waits / max(own_ms, 1e-9))
    return Forecast((under_way_ms + waits) / threads, own_ms)


def least_ms(job: Job, threads: int) -> float:
    """What a job takes at the very least, if it has the machine for itself and its runs are quick ones."""
    bucket = job.bucket
    fit, pieces = bucket.fit, max(1, -(-job.rows // bucket.most)) if bucket.batches else 1
    if not fit.is_known:
        return 0.0
    work_ms = fit.start_ms * pieces + fit.row_ms * job.rows
    return max(work_ms / min(pieces, threads), fit.of(-(-job.rows // pieces))) * quick(bucket)


def quick(bucket: Bucket) -> float:
    """The part of the usual time in which a run may end if it is a quick one."""
    return max(0.5, 1 - 2 * bucket.fit.spread)


def _before(lines: Iterable[Line], key: Key, bucket: Bucket) -> tuple[float, int]:
    """Milliseconds of work in some lines that runs before a piece with such a key, and rows that would run with it."""
    work = 0.0
    riders = 0
    for line in lines:
        rows, pieces = line.before(key)
        if line.bucket is bucket and bucket.batches and pieces:
            riders = rows % bucket.enough
            pieces = max(1, pieces * (rows - riders) // rows) if rows > riders else 0
            rows -= riders
        work += line.bucket.work_ms(rows, pieces)
    return work, riders
