"""Times several models fairly: in turns, on real rows, on one thread, warmed up, with the baseline in every block."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.dataset import Dataset
from modelmill.runtime.axes import tensor

if TYPE_CHECKING:
    from modelmill.runtime.session import Session

Array = np.ndarray[Any, Any]
Run = Callable[[int], object]
"""One call of a model; the number says which row (or batch) of the prepared ones it takes."""

DRIFT = 0.05
"""A block in which the baseline is this much off its own median says more of the machine than of the models."""
ROWS = 32
"""How many rows the timed calls go through, so that no model is judged by one lucky row."""


@dataclass(frozen=True)
class Plan:
    """How long to time each model, and in how many turns."""

    seconds: float = 0.6
    blocks: int = 10
    warmups: int = 20
    most_calls: int = 500
    """Of one model in one block."""


@dataclass(frozen=True, eq=False)
class Series:
    """The calls of one model in the blocks that were kept."""

    wall_ms: Array
    """(calls,) milliseconds of every call."""
    blocks_ms: Array
    """(blocks,) the median call of every block; the same blocks for every model of the run."""
    cpu_ms: Array
    """(blocks,) mean processor time of a call."""


def time_rows(models: Sequence[bytes], data: Dataset, rows: int, plan: Plan, seed: int = 0) -> list[Series]:
    """Time ONNX files on `rows` real rows a call, in turns; the last model is the baseline."""
    runs = [_run(session(model), data, rows) for model in models]
    with _quiet(pinned=plan.blocks >= 8):
        return interleave(runs, plan, seed)


@lru_cache(maxsize=4)
def session(model: bytes) -> Session:
    """The session of an ONNX file on one thread without spinning; the last few are kept open."""
    from modelmill.runtime.session import Session

    return Session(model, threads=1, spinning=False)


def _run(opened: Session, data: Dataset, rows: int) -> Run:
    batches = [batch(data, opened.inputs, start, rows) for start in range(min(ROWS, data.rows) if rows == 1 else 1)]
    count = len(batches)
    return lambda number: opened.run(batches[number % count])


def batch(data: Dataset, inputs: Sequence[str], start: int, rows: int) -> dict[str, Array]:
    """The inputs of `rows` real rows from `start` on; a data set with fewer is gone through again.

    As many as the models take, where that is a fixed number; and what they take once for all rows is the first one's.
    """
    fixed = max((field.rows for field in data.fields), default=-1)
    index = (start + np.arange(fixed if fixed > 0 else rows)) % data.rows
    fields = {field.name: field for field in data.fields}
    once = {name for name, field in fields.items() if field.axis is None}
    rows_of = {name: data.columns[name][index[:1] if name in once else index] for name in inputs}
    return {name: np.ascontiguousarray(tensor(fields[name], column)) for name, column in rows_of.items()}


def interleave(runs: Sequence[Run], plan: Plan, seed: int = 0) -> list[Series]:
    """Call every run in turns, in an order that is shuffled in every block, and keep the blocks that were calm."""
    calls = [_calls(run, plan) for run in runs]
    order = np.random.default_rng(seed)
    walls: list[list[Array]] = [[] for _ in runs]
    cpus: list[list[float]] = [[] for _ in runs]
    for _ in range(plan.blocks):
        for k in order.permutation(len(runs)):
            wall, cpu = _block(runs[k], calls[k])
            walls[k].append(wall)
            cpus[k].append(cpu)
    kept = calm(np.array([np.median(wall) for wall in walls[-1]]))
    return [
        Series(
            np.concatenate([wall[i] for i in kept]),
            np.array([np.median(wall[i]) for i in kept]),
            np.array([cpu[i] for i in kept]),
        )
        for wall, cpu in zip(walls, cpus, strict=True)
    ]


def calm(baseline: Array) -> list[int]:
    """The blocks in which the baseline ran as it usually does; never fewer than half of them.

    >>> calm(np.array([1.0, 1.02, 0.99, 1.4]))
    [0, 1, 2]
    """
    away = np.abs(baseline / np.median(baseline) - 1)
    nearest = np.argsort(away, kind="stable")[: (len(baseline) + 1) // 2]
    return sorted(set(np.flatnonzero(away <= DRIFT).tolist()) | set(nearest.tolist()))


def _calls(run: Run, plan: Plan) -> int:
    """Warm a model up; how many calls of it fill its share of a block."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < plan.warmups and (len(times) < 2 or time.perf_counter() - started < plan.seconds / 4):
        before = time.perf_counter()
        run(len(times))
        times.append(time.perf_counter() - before)
    once = max(float(np.median(times[len(times) // 2 :])), 1e-7)
    return int(np.clip(plan.seconds / plan.blocks / once, 2, plan.most_calls))


def _block(run: Run, calls: int) -> tuple[Array, float]:
    clock = time.perf_counter_ns
    stamps = np.empty(calls + 1, np.int64)
    before = time.thread_time_ns()
    stamps[0] = clock()
    for number in range(calls):
        run(number)
        stamps[number + 1] = clock()
    cpu = time.thread_time_ns() - before
    return np.diff(stamps) / 1e6, cpu / 1e6 / calls


@contextmanager
def _quiet(*, pinned: bool) -> Iterator[None]:
    """No garbage collection while timing, and, where it is long enough to pay, one processor: the idlest."""
    cores = _pin() if pinned else None
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        if cores is not None:
            os.sched_setaffinity(0, cores)


def _pin() -> set[int] | None:
    if not hasattr(os, "sched_setaffinity"):
        return None
    import psutil

    cores = os.sched_getaffinity(0)
    busy = psutil.cpu_percent(interval=0.05, percpu=True)
    idlest = min(cores, key=lambda core: busy[core] if core < len(busy) else 100.0)
    os.sched_setaffinity(0, {idlest})
    return cores


def ratio(series: Series, baseline: Series, seed: int = 0, draws: int = 400) -> tuple[float, float, float]:
    """How long a call takes against the baseline's, with the 95 % interval over the blocks that they shared."""
    pairs = series.blocks_ms / baseline.blocks_ms
    picks = np.random.default_rng(seed).integers(0, len(pairs), (draws, len(pairs)))
    low, high = np.quantile(np.median(pairs[picks], axis=1), [0.025, 0.975])
    return float(np.median(pairs)), float(low), float(high)
