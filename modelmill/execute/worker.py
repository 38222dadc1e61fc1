"""The life of a worker process: set up once, then run one job after another and stream what they yield.

Light on purpose: what a job needs is imported when its set-up is unpickled.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from modelmill.execute.preload import THREADS

Run = Callable[[Any], Iterator[Any]]
"""Does one job: yields progress, and its result last."""

Setup = Callable[[Any], Run]
"""Called once in every worker, with the pool's arguments."""


def work(pipe: Connection) -> None:
    """Serve the other end of the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(("hello", "", None, ""))
        run = _set_up(pipe)
        while run is not None:
            _serve(run, pipe)


def _die_with_parent() -> None:
    """End when the mill ends, however it ends: a killed mill leaves no worker behind."""
    threading.Thread(target=_watch_parent, daemon=True, name="watch-parent").start()
    if sys.platform == "linux":
        import ctypes
        from multiprocessing import forkserver

        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        # Every worker holds the pipe that keeps the fork server alive. Let go of it, and the server ends with the mill
        # alone, whereupon the kernel kills even workers that hang or are suspended.
        server: Any = forkserver._forkserver
        if server._forkserver_alive_fd is not None:
            os.close(server._forkserver_alive_fd)
            server._forkserver_alive_fd = None


def _watch_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _set_up(pipe: Connection) -> Run | None:
    main, pickled = pipe.recv()
    try:
        if main is not None:
            from multiprocessing import spawn

            spawn.prepare(main)
        setup, arguments = pickle.loads(pickled)
        run: Run = setup(arguments)
        _limit_threads()
    except Exception as error:  # noqa: BLE001 - told to the parent, which raises
        pipe.send(("broken", "", sentence(error), traceback.format_exc()))
        return None
    pipe.send(("ready", "", None, ""))
    return run


def _limit_threads() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _serve(run: Run, pipe: Connection) -> None:
    verb, job, payload = pipe.recv()
    if verb != "run":
        return
    try:
        for value in run(payload):
            pipe.send(("progress", job, value, ""))
            if _cancelled(pipe, job):
                pipe.send(("cancelled", job, None, ""))
                return
        answer: tuple[str, str, str | None, str] = ("result", job, None, "")
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001 - a job that fails is an answer, not the end of the worker
        answer = ("raised", job, sentence(error), traceback.format_exc())
    pipe.send(answer)


def _cancelled(pipe: Connection, job: str) -> bool:
    return pipe.poll() and pipe.recv() == ("cancel", job, None)


def sentence(error: BaseException) -> str:
    """An error in one line: ours as it reads, others with their type."""
    from modelmill.errors import MillError

    text = " ".join(str(error).split())
    if isinstance(error, MillError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
