"""How many threads a run of a model has: one, or all cores, as measured on the model itself.

Every core may have a run under way. With one thread a run that is all; with as many threads as cores a run that is
alone is sooner done, and runs that are many share the threads. Which of the two is right depends on the model: whether
its operations can be divided, and what the dividing costs where all cores are busy anyhow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, TypeVar

import numpy as np

from modelmill.errors import ModelError
from modelmill.serve.engine.pace import Runs

Array = np.ndarray[Any, Any]
S = TypeVar("S", bound=Runs)

LEAST_MS = 2.0
"""Shorter runs are not divided: waking a thread costs a good part of them."""
GAIN = 1.25
"""Alone, a run on all cores must be so many times as fast."""
LOSS = 0.95
"""With a run on every core, all together must keep at least this part of their rate."""
LONG_MS = 100.0
"""Of longer runs one a caller, and one round, say enough: their noise is small beside them."""
ROUNDS = 5
SECONDS = 1.0
"""Once so much time was spent, no further round is begun."""


def chosen(narrow: S, make: Callable[[int], S], columns: Mapping[str, Array], one_ms: float, cores: int) -> S:
    """The session to serve with: `narrow`, or one that `make` gives for all cores.

    Both are timed in turns, so that what else the machine does hits both; what counts is the median of the ratios.
    """
    if cores < 2 or not LEAST_MS <= one_ms < 1e9:
        return narrow
    try:
        wide = make(cores)
        wide.run(columns)
    except ModelError:
        return narrow
    gains: list[float] = []
    keeps: list[float] = []
    runs, least = (1, 1) if one_ms > LONG_MS else (2, 2)
    ends = time.perf_counter() + SECONDS
    while len(gains) < ROUNDS and (len(gains) < least or time.perf_counter() < ends):
        gains.append(rate(wide, columns, 1, runs) / rate(narrow, columns, 1, runs))
        keeps.append(rate(wide, columns, cores, runs) / rate(narrow, columns, cores, runs))
    return wide if suits(gains, keeps) else narrow


def suits(gains: list[float], keeps: list[float]) -> bool:
    """Whether all cores are worth it: `gains` are of a run that is alone, `keeps` what is left of the rate of many.

    >>> suits([1.6, 1.7, 0.9], [0.97, 1.01, 0.99]), suits([1.6, 1.7, 1.8], [0.7, 0.8, 1.0])
    (True, False)
    """
    return median(gains) >= GAIN and median(keeps) >= LOSS


def rate(session: Runs, columns: Mapping[str, Array], callers: int, runs: int = 2) -> float:
    """Runs a second of so many callers, each of which runs so often."""

    def call() -> None:
        for _ in range(runs):
            session.run(columns)

    threads = [threading.Thread(target=call) for _ in range(callers - 1)]
    begins = time.perf_counter()
    for thread in threads:
        thread.start()
    call()
    for thread in threads:
        thread.join()
    return runs * callers / (time.perf_counter() - begins)
