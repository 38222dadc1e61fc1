"""Answers every row of a file on all cores, in bounded memory, and goes on where an earlier run was killed."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from modelmill.bulk.formats import FORMATS, LAYOUT, Format, Piece, foot, head, piece
from modelmill.bulk.unfinished import Key, Unfinished
from modelmill.data.files import existing
from modelmill.data.stream import TEXT_BYTES, Block, Stream
from modelmill.errors import ContentError, OutOfBounds
from modelmill.runtime.calls import answers
from modelmill.runtime.chain import Program, digest, opened, size_bytes
from modelmill.runtime.pieces import rows_together
from modelmill.signature import Signature
from modelmill.table import check_output

CALL_BYTES = 1 << 18
"""About how much goes into one call of the graph, so that it and what comes of it stay in the processor's cache."""

BLOCK_WORK = 1 << 32
"""Rows of a block times bytes of the graphs, at most: what a kill may lose is seconds of work."""


@dataclass(frozen=True)
class Advance:
    """How far a run is; the last one of a run has `size_bytes`."""

    rows: int
    """Rows that are answered, those of earlier runs among them."""
    earlier_rows: int
    share: float
    """The part of all data that is answered."""
    total_rows: int | None
    seconds: float
    """Since this run began to answer."""
    note: str = ""
    """What a person should know."""
    size_bytes: int = 0

    @property
    def rows_per_second(self) -> float:
        """The pace of this run."""
        return (self.rows - self.earlier_rows) / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Pace:
    """How the work is cut: none of it changes a single answer but by the rounding of another size of call."""

    runners: int = 0
    """Blocks that are answered at once; 0 is one a core."""
    block_rows: int = 65_536
    text_bytes: int = TEXT_BYTES


def answer_file(
    program: Program, signature: Signature, source: Path, output: Path, fresh: bool = False, pace: Pace = Pace()
) -> Iterator[Advance]:
    """Answer every row of a file into another, in its order; yields how far it is, and first where it starts.

    The output appears whole or not at all. What is done when the run ends early lies beside it, and the same call goes
    on from there, unless the input or the model has changed, or with `fresh`.
    Raises ContentError for a row that does not fit, OutOfBounds for an output of another format, UsageError for an
    output that is what is read.
    """
    form = format_of(output)
    check_output(output, existing(str(source)))
    stream = Stream(source, _rows_of_a_block(pace, size_bytes(program)), pace.text_bytes)
    key = Key(
        tuple(_identity(file) for file in stream.files),
        digest(program),
        (form, *map(str, (LAYOUT, stream.rows, stream.text_bytes, _rows_of_a_call(signature)))),
    )
    with Unfinished(output) as unfinished:
        note = unfinished.open(key, head(form), fresh)
        earlier, started = unfinished.rows, time.perf_counter()

        def advance(share: float, note: str = "", size: int = 0) -> Advance:
            seconds = time.perf_counter() - started
            return Advance(unfinished.rows, earlier, share, stream.total_rows, seconds, note, size)

        try:
            yield advance(0.0, note)
            for made, block in _pieces(program, signature, stream, unfinished, form, pace):
                unfinished.append(made, block.after)
                yield advance(block.share)
            if not unfinished.entries:
                raise ContentError(str(source), "holds no rows", "Give a file with rows to answer.")
        finally:
            unfinished.discard()
        size = unfinished.finish(foot(form, unfinished.notes(len(head(form)))))
        yield advance(1.0, "", size)


def format_of(output: Path) -> Format:
    """The format that a file's suffix says. Raises OutOfBounds for one that cannot be written block by block."""
    for form in FORMATS:
        if output.suffix == form:
            return form
    hint = f"Write one of {', '.join(FORMATS)}."
    raise OutOfBounds(f"--output {output}", f"no format for {output.suffix!r} that can be written in blocks", hint)


def _pieces(
    program: Program, signature: Signature, stream: Stream, unfinished: Unfinished, form: Format, pace: Pace
) -> Iterator[tuple[Piece, Block]]:
    """The answers to block after block, in order: some are being worked out while one is handed on."""
    session = opened(program)
    most = _rows_of_a_call(signature)
    runners = pace.runners or cores()

    def work(block: Block, first: bool) -> Piece:
        data = block.dataset(signature)
        _check_together(signature, stream.path, data.rows, first)
        return piece(form, answers(session, data, most), signature, first)

    waiting: deque[tuple[Future[Piece], Block]] = deque()
    first = not unfinished.entries
    with ThreadPoolExecutor(runners, "modelmill-predict") as pool:
        try:
            for block in stream.blocks(signature, unfinished.mark):
                waiting.append((pool.submit(work, block, first), block))
                first = False
                del block  # a block is large, and this name would keep it
                while len(waiting) > runners + 1:
                    yield _taken(waiting)
            while waiting:
                yield _taken(waiting)
        finally:
            for future, _ in waiting:
                future.cancel()


def _check_together(signature: Signature, path: Path, rows: int, first: bool) -> None:
    """Refuse a block that is not all the rows of a call that belong together. Raises ContentError."""
    size = rows_together(signature)
    if not signature.series or (first and size in (-1, rows)):
        return
    if size < 0:
        message = "has more rows than one call takes, and the rows of a call of this model belong together"
        raise ContentError(str(path), message, "Give a file for each group, or call predict in Python.")
    came = f"{rows:,} rows" if first else f"more than {size:,} rows"
    message = f"holds {came}, and the model takes {size:,} at a time, which are a series"
    raise ContentError(str(path), message, f"Give {size:,} at a time.")


def _taken(waiting: deque[tuple[Future[Piece], Block]]) -> tuple[Piece, Block]:
    future, block = waiting.popleft()
    return future.result(), block


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rows_of_a_block(pace: Pace, size: int) -> int:
    return max(min(pace.block_rows, BLOCK_WORK // max(size, 1)), min(pace.block_rows, 256))


def _rows_of_a_call(signature: Signature) -> int:
    """By the bytes of a row, so that the same file is always answered by the same calls; a series is not cut."""
    if signature.series:
        return sys.maxsize
    row = 0
    for field in signature.inputs:
        count = 1
        for size in field.row:
            count *= max(size, 1)
        row += count * (16 if field.datatype == "BYTES" else 8)
    return max(16, min(CALL_BYTES // max(row, 1), 4096))


def _identity(file: Path) -> tuple[str, int, int, str]:
    """What tells a file from another without reading all of it."""
    state = file.stat()
    read = hashlib.sha256()
    with file.open("rb") as data:
        read.update(data.read(1 << 20))
        data.seek(max(state.st_size - (1 << 20), 0))
        read.update(data.read(1 << 20))
    return str(file.resolve()), state.st_size, state.st_mtime_ns, read.hexdigest()
