"""What the service counts: requests, times by phase, rows of runs; exact over all of its processes.

To add to a histogram costs more than it may: what is seen is noted as it is, and added up by the hundred, a moment
later or when somebody reads.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelmill.errors import StorageError
from modelmill.serve.signals.kinds import ASIDE, OVER_QUOTA, PHASE_SECONDS, PHASES, ROWS, SECONDS, SINCE, by_kind
from modelmill.serve.signals.machine import Machine
from modelmill.serve.signals.page import page
from modelmill.serve.signals.slots import Slots, merged, read

FOLD_S = 0.05
"""So long what was noted may wait until it is added up: other processes do not see it before."""

SIZES = 256
"""So many numbers of rows are told apart in the runs of one version."""

Array = np.ndarray[Any, Any]


class Tape:
    """What is noted until it is taken, from any thread: a number at a time, or so many together.

    width: how many belong together.
    """

    __slots__ = ("_noted", "add", "together", "width")

    def __init__(self, width: int = 1) -> None:
        self.width = width
        self._noted: list[float] = []
        self.add = self._noted.append
        """Note a number, where width is one."""
        self.together = self._noted.extend
        """Note a tuple of so many numbers."""

    def take(self) -> Array:
        """What was noted since it was last taken: (entries, width)."""
        taken = self._noted[:]
        del self._noted[: len(taken)]
        return np.fromiter(taken, float, len(taken)).reshape(-1, self.width)


class Histogram:
    """Counts of values up to bounds, and their sum."""

    __slots__ = ("bounds", "values")

    def __init__(self, bounds: Sequence[float], values: memoryview[float]) -> None:
        self.bounds = np.array(bounds, float)
        self.values = values

    def add(self, found: Array) -> None:
        """Count values, each in the first bucket whose bound is not below it."""
        if not len(found):
            return
        values = self.values
        for place, count in enumerate(np.bincount(np.searchsorted(self.bounds, found)).tolist()):
            if count:
                values[place] += count
        values[-1] += float(found.sum())


class Served:
    """The figures of one version; it lives as long as the service.

    awake: told when something is noted for the first time since all was added up.
    """

    def __init__(self, slots: Slots, model: str, version: str, awake: Callable[[Served], None]) -> None:
        self._slots = slots
        self._which = (model, version)
        self._awake = awake
        self._at_rest = True
        """Whether nothing waits to be added up."""
        self._answers: dict[tuple[str, int], tuple[memoryview[float], Tape]] = {}
        self._sizes: dict[int, memoryview[float]] = {}
        self._runs, self._ones, self._waits, self._encodings = Tape(4), Tape(), Tape(2), Tape()
        self._duration = self._histogram("duration", SECONDS)
        self._rows = self._histogram("rows", ROWS)
        self._queue, self._batch, self._compute, self._encode = (self._histogram(n, PHASE_SECONDS) for n in PHASES)
        self._failed = self._values("failed", 1)
        self._inferred = self._values("inferred", 1)
        self._last = self._values("last", 1)
        self.encoded = self._encodings.add
        """Note how many seconds it took to put an answer into bytes; the answer itself is told after that."""
        self.ran_one = self._ones.add
        """Note the nanoseconds of a run of one row on the loop; an answer is told after that."""

    def answered(self, face: str, code: int, seconds: float, encoded: float = -1.0) -> None:
        """Note an answer. encoded: the seconds that it took to put it into bytes, where `encoded` was not told."""
        found = self._answers.get((face, code))
        if found is None:
            key = _key("answers", *self._which, face, str(code))
            found = self._answers[face, code] = (self._slots.claim(key, 1), Tape(2))
        found[1].together((seconds, encoded))
        if self._at_rest:
            self._wake()

    def ran(self, rows: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """Note a run: its rows, and what each phase took; on the loop nothing is joined, and nobody waits."""
        self._runs.together((rows, input_ns, infer_ns, output_ns))
        if self._at_rest:
            self._wake()

    def waited(self, ns: int, rows: int) -> None:
        """Note how long a request of so many rows waited for its run; its answer is told after that."""
        self._waits.together((ns, rows))

    def awake(self) -> None:
        """Have what was noted added up, where no answer is told of: a step of a pipeline has none of its own."""
        if self._at_rest:
            self._wake()

    def _wake(self) -> None:
        self._at_rest = False
        self._awake(self)

    def fold(self) -> None:
        """Add up what was noted; by one thread at a time."""
        self._at_rest = True
        for (_, code), (count, tape) in tuple(self._answers.items()):
            self._fold_answers(code, count, *tape.take().T)
        waits, rows = self._waits.take().T
        self._queue.add(waits / 1e9)
        self._inferred[0] += float(rows.sum())
        self._encode.add(self._encodings.take()[:, 0])
        self._fold_ones(self._ones.take()[:, 0])
        self._fold_runs(self._runs.take())

    def _fold_answers(self, code: int, count: memoryview[float], seconds: Array, encoded: Array) -> None:
        count[0] += len(seconds)
        if self._which[0]:
            self._duration.add(seconds)
            self._encode.add(encoded[encoded >= 0])
            self._failed[0] += float(seconds.sum()) if code >= 400 else 0.0

    def _fold_ones(self, infers: Array) -> None:
        """Add up runs of one row each on the loop, of so many nanoseconds."""
        if len(infers):
            self._rows.add(np.ones(len(infers)))
            self._inferred[0] += len(infers)
            self._queue.add(np.zeros(len(infers)))
            self._compute.add(infers / 1e9)
            self._add_size(1, (len(infers), 0.0, float(infers.sum()), 0.0))

    def _fold_runs(self, runs: Array) -> None:
        if not len(runs):
            return
        rows, inputs, infers, outputs = runs.T
        self._rows.add(rows)
        self._compute.add(infers / 1e9)
        joined = inputs > 0
        self._inferred[0] += float(rows[~joined].sum())
        self._queue.add(np.zeros(len(runs) - int(joined.sum())))
        self._batch.add((inputs + outputs)[joined] / 1e9)
        sizes, which = np.unique(rows, return_inverse=True)
        sums = [np.bincount(which, values).tolist() for values in (None, inputs, infers, outputs)]
        for size, *found in zip(sizes.tolist(), *sums, strict=True):
            self._add_size(int(size), found)

    def _add_size(self, rows: int, found: Sequence[float]) -> None:
        """Count runs of so many rows, and the nanoseconds that they took to join, run and take apart."""
        view = self._size(rows)
        for place, value in enumerate(found):
            view[place] += value
        self._last[0] = time.time()

    def _size(self, rows: int) -> memoryview[float]:
        """The count of runs of so many rows, and the nanoseconds that they took to join, run and take apart."""
        view = self._sizes.get(rows)
        if view is None:
            if len(self._sizes) >= SIZES:
                return _nowhere(4)
            try:
                view = self._values("size", 4, str(rows))
            except StorageError:  # they are not told apart then; the run is counted all the same
                view = _nowhere(4)
            self._sizes[rows] = view
        return view

    def _histogram(self, what: str, bounds: Sequence[float]) -> Histogram:
        return Histogram(bounds, self._values(what, len(bounds) + 2))

    def _values(self, what: str, width: int, *labels: str) -> memoryview[float]:
        if not self._which[0]:  # requests for what is not served are counted, and nothing is timed
            return _nowhere(width)
        return self._slots.claim(_key(what, *self._which, *labels), width)


class Figures:
    """Everything that was counted since the start, by version; it holds the slots of this process.

    folder: where every worker has a file of the name of its number; None for a process that is alone.
    """

    def __init__(self, folder: Path | None = None, worker: int = 0) -> None:
        self.folder = folder
        self._own = folder / f"{worker}.figures" if folder is not None else None
        self.slots = Slots(self._own)
        began = self.slots.claim(SINCE, 1)
        began[0] = began[0] or time.time()
        self._aside = self.slots.claim(ASIDE, len(SECONDS) + 2)
        self._over_quota = self.slots.claim(OVER_QUOTA, 1)
        self._pending: dict[tuple[str, str], memoryview[float]] = {}
        for model, version in (labels for labels, _ in by_kind(self.slots.values()).get("pending", ())):
            self.pending({(model, version): 0})  # what a dead process was about to do, nobody does
        self._machine = Machine()
        self._served: dict[tuple[str, str], Served] = {}
        self._awake: list[Served] = []
        """Those for which something was noted."""
        self._due = False
        """Whether it is going to be added up."""
        self._lock = threading.Lock()

    def of(self, model: str, version: str) -> Served:
        """The figures of a version; of an empty name, those of requests that no model answered."""
        served = self._served.get((model, version))
        if served is None:
            served = self._served[model, version] = Served(self.slots, model, version, self._wake)
        return served

    def set_aside(self, seconds: float, over_quota: bool) -> None:
        """Note an answer of a model that is counted as others, and whose time says nothing of the service."""
        self._aside[bisect_left(SECONDS, seconds)] += 1
        self._aside[-1] += seconds
        self._over_quota[0] += over_quota

    def _wake(self, served: Served) -> None:
        """Have what is noted added up a moment later; at once, where there is no loop to do so."""
        self._awake.append(served)
        if not self._due:
            try:
                asyncio.get_running_loop().call_later(FOLD_S, self.fold)
                self._due = True
            except RuntimeError:
                self.fold()

    def fold(self) -> None:
        """Add up what was noted; from any thread."""
        with self._lock:
            self._due = False
            for _ in range(len(self._awake)):
                self._awake.pop().fold()

    def gauge(self, name: str, value: float) -> None:
        """What is now: over several processes, the sum."""
        self.slots.claim(_key("gauge", name), 1)[0] = value

    def pending(self, now: Mapping[tuple[str, str], int]) -> None:
        """How many requests wait for which version, now; of any other none does."""
        for which in now.keys() - self._pending.keys():
            self._pending[which] = self.slots.claim(_key("pending", *which), 1)
        for which, view in self._pending.items():
            view[0] = now.get(which, 0)

    def series(self) -> dict[str, list[float]]:
        """The sums over all processes: all that this one has seen, and the others until a moment ago."""
        self.fold()
        others = [] if self.folder is None else [p for p in sorted(self.folder.glob("*.figures")) if p != self._own]
        return merged([self.slots.values(), *(read(path) for path in others)])

    def text(self, meanings: Mapping[str, str]) -> str:
        """The page at /metrics; `meanings` are of the gauges."""
        return page(self.series(), meanings) + "".join(f"{line}\n" for line in self._machine.lines())


def _nowhere(width: int) -> memoryview[float]:
    """Values that nobody reads."""
    return memoryview(bytearray(8 * width)).cast("d")


def _key(what: str, *labels: str) -> str:
    return json.dumps([what, *labels], ensure_ascii=False)
