"""How much energy a row takes: counted where the machine counts, else modelled."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset
from modelmill.evaluate.costs.timing import Plan, batch, session, time_rows

POWERCAP = Path("/sys/class/powercap")


def counter(root: Path = POWERCAP) -> Path | None:
    """The folder of the first processor's energy counter (RAPL), or None where there is none that may be read."""
    for folder in sorted(root.glob("*-rapl:0")):
        if os.access(folder / "energy_uj", os.R_OK):
            return folder
    return None


class Energy(Cost):
    """Millijoules a row, one at a time on one thread.

    Where Linux exposes the processor's energy counter, the growth of the counter while rows run, less its growth over
    an idle stretch of the same length. Elsewhere it is modelled, and the report says so: `watts` times the processor
    seconds of a row. A modelled figure compares models on one machine; it is no meter reading.
    """

    gives: ClassVar[tuple[str, ...]] = ("energy_mj",)

    watts: Annotated[float, Meta(gt=0, le=1000)] = 10.0
    """Power of one busy core in the model: a desktop processor of 65 W and six cores, rounded."""
    seconds: Annotated[float, Meta(gt=0, le=60)] = 0.1
    """Time for each model, warm-up aside."""

    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Millijoules of a row, for every model."""
        folder = counter()
        if folder is not None:
            idle_watts = _power(folder, max(self.seconds, 0.1))
            return [{"energy_mj": self._counted(model, data, folder, idle_watts)} for model in models]
        series = time_rows(models, data, 1, Plan(self.seconds, blocks=4, warmups=5))
        # Watts times milliseconds are millijoules.
        return [{"energy_mj": self.watts * float(np.median(one.cpu_ms))} for one in series]

    def _counted(self, model: bytes, data: Dataset, folder: Path, idle_watts: float) -> float:
        opened = session(model)
        row = batch(data, opened.inputs, 0, 1)
        opened.run(row)
        calls, started, before = 0, time.perf_counter(), _joules(folder)
        while (elapsed := time.perf_counter() - started) < max(self.seconds, 0.1):
            opened.run(row)
            calls += 1
        used = _since(folder, before) - idle_watts * elapsed
        return max(used, 0.0) * 1000 / calls


def _power(folder: Path, seconds: float) -> float:
    before, started = _joules(folder), time.perf_counter()
    time.sleep(seconds)
    return _since(folder, before) / (time.perf_counter() - started)


def _joules(folder: Path) -> float:
    return int((folder / "energy_uj").read_text("ascii")) / 1e6


def _since(folder: Path, before: float) -> float:
    """Joules since `before`; the counter starts again at 0 when it is full."""
    grown = _joules(folder) - before
    if grown >= 0:
        return grown
    return grown + int((folder / "max_energy_range_uj").read_text("ascii")) / 1e6
