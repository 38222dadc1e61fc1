"""Jobs for worker processes that go wrong in every way."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any


def setup(arguments: Any) -> Any:
    """Take the arguments along."""
    if arguments == "broken":
        raise ValueError("the arguments are broken")
    if arguments == "dead":
        os._exit(4)

    def run(payload: Any) -> Iterator[Any]:
        yield {"step": 1}
        if isinstance(payload, int):
            yield payload * (arguments or 1)
        else:
            yield from BEHAVIOR[payload]()

    return run


def crash() -> Iterator[Any]:
    """End the process."""
    os._exit(3)
    yield


def segfault() -> Iterator[Any]:
    """Read where nothing is."""
    import ctypes

    ctypes.string_at(0)
    yield


def hang() -> Iterator[Any]:
    """Never end."""
    while True:
        time.sleep(60)
        yield


def steps() -> Iterator[Any]:
    """Go on step by step, without end."""
    for step in range(10**6):
        time.sleep(0.01)
        yield {"step": step}


def hog() -> Iterator[Any]:
    """Take more and more memory."""
    kept = []
    while True:
        kept.append(b"x" * 20_000_000)
        time.sleep(0.01)
    yield


def fail() -> Iterator[Any]:
    """Raise."""
    raise ValueError("this cannot be done")
    yield


def threads() -> Iterator[Any]:
    """How many threads the numeric libraries may use."""
    import torch

    yield {"torch": torch.get_num_threads(), "omp": os.environ["OMP_NUM_THREADS"]}


BEHAVIOR = {
    "crash": crash,
    "segfault": segfault,
    "hang": hang,
    "steps": steps,
    "hog": hog,
    "fail": fail,
    "threads": threads,
}
