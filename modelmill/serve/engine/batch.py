"""Requests as pieces that a run can hold: joined to a batch, run, taken apart, and put together again."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelmill.errors import MillError, ModelError
from modelmill.runtime.session import Stop
from modelmill.serve.engine.lane import Bucket, Lane
from modelmill.serve.engine.pace import Runs
from modelmill.serve.engine.payer import Payer

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]
Key = tuple[float, float, int, int]


class Given(asyncio.Future[Outputs]):
    """Outputs that are to come; whoever gives them up has that told at once, not with the loop's next round.

    given_up: called when it is cancelled.
    """

    given_up: Callable[[], None] | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Give the outputs up."""
        cancelled = super().cancel(msg)
        if cancelled and self.given_up is not None:
            self.given_up()
        return cancelled


@dataclass(eq=False, slots=True)
class Job:
    """One request that waits for its outputs; `future` is done with them, or cancelled when the client leaves."""

    columns: Mapping[str, Array]
    rows: int
    outputs: tuple[str, ...]
    future: Given
    payer: Payer
    lane: Lane
    bucket: Bucket
    deadline: float = math.inf
    level: float = math.inf
    """Its priority as a number that sorts: the default comes last."""
    due: float = math.inf
    """What it is sorted by within its priority: its deadline, or, without one, a while after its arrival."""
    number: int = 0
    """How many came before."""
    arrived_ns: int = 0
    pieces: list[Piece] = field(default_factory=list)
    parts: int = 1
    """How many pieces it was cut to."""
    waits: int = 0
    """How many of them wait for a run."""
    answers: list[Outputs | None] = field(default_factory=list)
    runs: set[Run] = field(default_factory=set)
    """The runs under way that hold a piece of it."""
    foretold: bool = False
    """Whether it was taken since a forecast said that it would be in time."""
    held: list[Job] = field(default_factory=list)
    """Itself, where whoever watches for its deadline holds it; nothing once it has ended."""
    begun_ns: float = math.inf
    """When its first run began; infinite until it is known."""
    ended: bool = False
    """Whether it was taken out without an answer."""

    def let_go(self) -> None:
        """Forget what it was made of: nothing keeps the arrays of a job that has ended."""
        self.held.clear()
        self.pieces = []
        self.runs.clear()
        self.future.given_up = None

    @property
    def is_done(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done()

    @property
    def key(self) -> Key:
        """What its first piece is sorted by."""
        return self.level, self.due, self.number, 0


@dataclass(eq=False, slots=True)
class Piece:
    """Rows of a job that go into one run: all of them, or a part of a large request."""

    job: Job
    index: int
    rows: int
    columns: Mapping[str, Array]
    key: Key
    """What it is sorted by: priority, what is due first, who came first."""
    waits: bool = False
    """Whether it waits for a run: its payer has a line in its bucket then."""


@dataclass(eq=False, slots=True)
class Run:
    """Pieces that run together, and how that went."""

    session: Runs
    pieces: list[Piece]
    stop: Stop
    rows: int
    expected_ms: float
    jobs: set[Job]
    """Those that are still waited for."""
    ns: Callable[[], int] = time.monotonic_ns
    latest: float = math.inf
    """The last deadline of its jobs, at which it is stopped."""
    began_ns: float = math.inf
    """On the engine's clock; infinite as long as it waits for a thread."""
    answers: list[Outputs | BaseException] = field(default_factory=list)
    phases_ns: tuple[int, int, int] = (0, 0, 0)
    """Joining, running, taking apart."""
    repeated: bool = False
    """Whether it failed as a whole, so that its pieces ran alone."""

    def left_ms(self, now: float) -> float:
        """How long it will still take."""
        past_ms = max(0.0, now * 1000 - self.began_ns / 1e6)
        left_ms = abs(self.expected_ms - past_ms)  # what is overdue will take about as long again as it is
        return max(0.0, min(left_ms, (self.latest - now) * 1000))

    def execute(self) -> None:
        """Run, on whatever thread; if a batch fails, each piece alone, so that one bad request spoils no other."""
        self.began_ns = self.ns()
        if self.stop.said:
            self.answers = [ModelError("engine", "nobody waits for this", "")] * len(self.pieces)
            return
        try:
            self._together()
        except MillError as error:
            if len(self.pieces) == 1 or self.stop.said:
                self.answers = [error] * len(self.pieces)
            else:
                self.repeated = True
                self.answers = [self._alone(piece) for piece in self.pieces]
        except BaseException as error:  # noqa: BLE001 - it is raised again where the outputs are awaited
            self.answers = [error] * len(self.pieces)

    def _together(self) -> None:
        began = self.ns()
        columns = join(self.pieces)
        joined = self.ns()
        outputs = self.session.run(columns, names(self.pieces), self.stop)
        ran = self.ns()
        self.answers = [*split(outputs, self.pieces)]
        self.phases_ns = (joined - began, ran - joined, self.ns() - ran)

    def _alone(self, piece: Piece) -> Outputs | BaseException:
        if piece.job.is_done:
            return ModelError("engine", "nobody waits for this", "")
        try:
            return split(self.session.run(piece.columns, piece.job.outputs, self.stop), [piece])[0]
        except MillError as error:
            return error


PIECES_MOST = 1024
"""Into so many pieces a job is cut at most: they are made on the loop, which others wait for."""


def cut(job: Job, most_rows: int, step_s: float = 0.0) -> None:
    """Give a job its pieces, of `most_rows` at most and as equal as can be; never more than PIECES_MOST.

    step_s: each is due by so much later than the one before, so that whoever comes meanwhile need not wait for all.

    >>> job = Job({"x": np.arange(7)}, 7, ("y",), None, None, None, None)
    >>> cut(job, 3)
    >>> [piece.columns["x"].tolist() for piece in job.pieces]
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    count = min(-(-job.rows // most_rows), PIECES_MOST) if job.rows else 1
    job.answers = [None] * count
    job.parts = count
    if count == 1:
        job.pieces = [Piece(job, 0, job.rows, job.columns, job.key)]
        return
    small, larger = divmod(job.rows, count)
    start = 0
    for index in range(count):
        rows = small + (index < larger)
        part = {name: column[start : start + rows] for name, column in job.columns.items()}
        job.pieces.append(Piece(job, index, rows, part, (job.level, job.due + index * step_s, job.number, index)))
        start += rows


def join(pieces: Sequence[Piece]) -> dict[str, Array]:
    """The columns of all pieces, one after the other."""
    if len(pieces) == 1:
        return dict(pieces[0].columns)
    return {name: np.concatenate([piece.columns[name] for piece in pieces]) for name in pieces[0].columns}


def names(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """The outputs that any of the jobs wants."""
    if len(pieces) == 1:
        return pieces[0].job.outputs
    return tuple(dict.fromkeys(name for piece in pieces for name in piece.job.outputs))


def split(outputs: Mapping[str, Array], pieces: Sequence[Piece]) -> list[Outputs]:
    """Every piece's own rows of the outputs that its job wants.

    Raises ModelError where the outputs have not a row for every row of input; the whole of one job needs none.
    """
    if len(pieces) == 1 and pieces[0].job.parts == 1:
        return [dict(outputs)]
    rows = sum(piece.rows for piece in pieces)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise ModelError("engine", f"output {name} has {array.shape} for {rows} rows", "")
    answers: list[Outputs] = []
    start = 0
    for piece in pieces:
        answers.append({name: outputs[name][start : start + piece.rows] for name in piece.job.outputs})
        start += piece.rows
    return answers


def whole(answers: Sequence[Outputs | None]) -> Outputs:
    """The outputs of a job from those of its pieces."""
    parts = [answer for answer in answers if answer is not None]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
