"""Starts the server that workers are forked from, with heavy libraries already imported, each on one thread."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from types import ModuleType

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What the numeric libraries read, once, as they are imported."""

_LOCK = threading.Lock()


def context(modules: Sequence[str] = ()) -> BaseContext:
    """The way in which workers start; `modules` are imported once, before the first worker is forked.

    One server serves the whole process: modules that are asked for after it has started are imported in the workers.
    """
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    found = multiprocessing.get_context("forkserver")
    with _one_thread(), without_main():
        found.set_forkserver_preload(["modelmill.execute.worker", *modules])
        forkserver.ensure_running()
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def without_main() -> Iterator[None]:
    """Keep new processes from running the user's script again: only work that is defined in it needs that."""
    with _LOCK:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
