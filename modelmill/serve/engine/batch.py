"""Batches: requests of the same shape that wait are joined, answered in one run, and taken apart again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class Job:
    """One request that waits for its outputs; `future` is done with them, or cancelled when the client leaves."""

    columns: Mapping[str, Array]
    rows: int
    outputs: tuple[str, ...]
    future: asyncio.Future[dict[str, Array]]
    shapes: tuple[tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.shapes = tuple(column.shape[1:] for column in self.columns.values())


def take(waiting: deque[Job], most_rows: int) -> list[Job]:
    """Remove the next batch from the front of `waiting`: jobs of one shape, in order, of `most_rows` at most together.

    A job larger than that goes alone. Jobs whose client has left are dropped.
    """
    batch: list[Job] = []
    rows = 0
    while waiting:
        job = waiting[0]
        if job.future.done():
            waiting.popleft()
            continue
        if batch and (rows + job.rows > most_rows or job.shapes != batch[0].shapes):
            break
        batch.append(waiting.popleft())
        rows += job.rows
    return batch


def join(jobs: Sequence[Job]) -> dict[str, Array]:
    """The columns of all jobs, one after the other.

    >>> make = lambda *values: Job({"x": np.array(values)}, len(values), ("y",), None)
    >>> join([make(1, 2), make(3)])["x"].tolist()
    [1, 2, 3]
    """
    if len(jobs) == 1:
        return dict(jobs[0].columns)
    return {name: np.concatenate([job.columns[name] for job in jobs]) for name in jobs[0].columns}


def names(jobs: Sequence[Job]) -> tuple[str, ...]:
    """The outputs that any of the jobs wants."""
    return tuple(dict.fromkeys(name for job in jobs for name in job.outputs))


def split(outputs: Mapping[str, Array], jobs: Sequence[Job]) -> list[dict[str, Array]]:
    """Every job's own rows of the outputs that it wants."""
    answers: list[dict[str, Array]] = []
    start = 0
    for job in jobs:
        answers.append({name: outputs[name][start : start + job.rows] for name in job.outputs})
        start += job.rows
    return answers
