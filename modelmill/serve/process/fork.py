"""Processes that begin as copies of this one, so that what was imported before is in memory once.

A copy of a process has none of its threads: nothing that starts one may be imported before. onnxruntime does not, since
its telemetry is off (`modelmill/__init__.py`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy's own library would start threads, which a service has no use for."""


class Forked:
    """A process that began as a copy of this one; like `subprocess.Popen`, as far as that goes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs still."""
        if self.poll() is None:
            os.kill(self.pid, number)


def prepare(modules: Sequence[str]) -> None:
    """Import what copies will need; the search for garbage will write to none of it."""
    os.environ |= ONE_THREAD
    for name in modules:
        with contextlib.suppress(ImportError):  # uvloop and httptools are not there on every system
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def fork(work: Callable[[], None], environment: Mapping[str, str]) -> Forked:
    """A copy of this process that does `work`, in a session of its own, and ends with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Forked(pid)
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()  # Ctrl-C in the terminal is for the supervisor to pass on, once
        os.environ |= environment
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - it is told, and the copy ends
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # what the supervisor has yet to do is none of a copy's business
