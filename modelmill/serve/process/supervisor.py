"""Looks after the workers of a service: starts them, replaces one that died, passes signals on, ends with them."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from modelmill.errors import WorkError
from modelmill.serve.handover import can_share
from modelmill.serve.process.crew import VARIABLE, Board, Worker
from modelmill.serve.process.fork import Forked, fork, prepare
from modelmill.serve.process.pulse import HUNG_S, Pulse
from modelmill.store.disk import make_folder

SOON_S = 5.0
"""A worker that dies so soon after its start is waited with, longer every time."""
LONGEST_S = 10.0
"""The longest such wait."""
TURN_S = 0.05
"""How often it is looked whether all are ready, and who is to be started again."""
DRAIN_SECONDS = 30.0
"""How long requests in flight may take at the end."""
PREFIX = "serve-"
"""How the names of folders begin that the workers of one service share."""
KILL_S = 15.0
"""So long after the workers should have ended they are killed."""


class Supervisor:
    """Holds the workers' processes, each of which does `work`. One thread, its signals as bytes in a pipe.

    modules: what is imported once for all of them, and starts no thread.
    """

    def __init__(
        self, work: Callable[[], None], modules: Sequence[str], workers: Sequence[Worker], drain_seconds: float
    ) -> None:
        self.work = work
        self.modules = modules
        self.workers = workers
        self.board = Board(workers[0].folder, len(workers))
        self.pulse = Pulse(self.board, time.monotonic())
        self.drain_seconds = drain_seconds
        self.processes: dict[int, Forked] = {}
        self.started: dict[int, float] = {}
        self.deaths: dict[int, int] = {}
        self.due: dict[int, float] = {worker.index: 0.0 for worker in workers}
        """When whom to start."""
        self.said_ready = False

    def run(self, ready: Callable[[], None]) -> int:
        """Look after the workers until SIGTERM or SIGINT; the exit code. `ready` is called once all of them are."""
        prepare(self.modules)
        with _signals() as pipe:
            while True:
                self._start_due()
                for number in _heard(pipe):
                    if number in (signal.SIGTERM, signal.SIGINT):
                        return self._end(pipe)
                    if number != signal.SIGCHLD:
                        self._tell(number)
                self._give_up()
                code = self._bury()
                if code is not None:
                    self._tell(signal.SIGTERM)
                    self._end(pipe)
                    return code
                if not self.said_ready and self.board.is_whole:
                    self.said_ready = True
                    ready()

    def _start_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, at in self.due.items() if at <= now]:
            del self.due[index]
            self.processes[index] = fork(self.work, {VARIABLE: self.workers[index].told()})
            self.started[index] = now

    def _give_up(self) -> None:
        """Kill who hangs."""
        for index in self.pulse.look(list(self.processes), time.monotonic()):
            print(f"modelmill serve: worker {index} hangs since {HUNG_S:.0f} seconds", file=sys.stderr, flush=True)
            self.processes[index].send_signal(signal.SIGKILL)
            self.pulse.forget(index)  # it is said once

    def _bury(self) -> int | None:
        """Have who died replaced. The exit code of one that could not even start, while none ever was ready."""
        for index, process in list(self.processes.items()):
            code = process.poll()
            if code is None:
                continue
            self.board.mark(index, ready=False)
            self.pulse.forget(index)
            del self.processes[index]
            if code > 0 and not self.said_ready:
                return code
            now = time.monotonic()
            soon = now - self.started[index] < SOON_S
            self.deaths[index] = self.deaths.get(index, 0) + 1 if soon else 0
            wait = min(LONGEST_S, 0.1 * 2 ** self.deaths[index]) if soon else 0.0
            self.due[index] = now + wait
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            print(f"modelmill serve: worker {index} {how}; another one takes its place", file=sys.stderr, flush=True)
        return None

    def _tell(self, number: int) -> None:
        for process in self.processes.values():
            process.send_signal(number)

    def _end(self, pipe: int) -> int:
        """Let all drain; at a second signal they end at once."""
        for worker in self.workers:
            self.board.mark(worker.index, ready=False)
        self._tell(signal.SIGTERM)
        deadline = time.monotonic() + self.drain_seconds + KILL_S
        while any(process.poll() is None for process in self.processes.values()):
            if time.monotonic() > deadline:
                self._tell(signal.SIGKILL)
            for number in _heard(pipe):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._tell(signal.SIGINT)
        return 0


@contextlib.contextmanager
def crew(folder: Path, count: int, port: int, grpc_port: int) -> Iterator[list[Worker]]:
    """The workers of a service, with a folder that they share below this one; it is removed at the end.

    Folders of services that were killed are removed, too. Raises WorkError where one port cannot be shared.
    """
    if not can_share() or sys.platform != "linux":
        raise WorkError("--workers", "processes share a port on Linux alone", "Leave --workers out.")
    make_folder(folder)
    with _shared(folder) as shared:
        yield [Worker(index, count, port, grpc_port, os.getpid(), shared) for index in range(count)]


@contextlib.contextmanager
def _shared(folder: Path) -> Iterator[Path]:
    """A new folder below another one; it is removed at the end, and so is now what nobody lives in any more.

    Whoever lives in a folder holds a lock of the kernel on it: copies of the process hold it with it, and it falls with
    the last of them, however that ends.
    """
    with contextlib.ExitStack() as living, contextlib.ExitStack() as alone:
        with contextlib.suppress(OSError):  # on a disk that has no such locks nothing is removed
            alone.enter_context(_locked(folder, wait=True))  # or another one would remove what is not locked yet
            _sweep(folder)
        shared = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        with contextlib.suppress(OSError):
            living.enter_context(_locked(shared))
        alone.close()
        try:
            yield shared
        finally:
            shutil.rmtree(shared, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove the folders in which nobody lives."""
    for left in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock on a folder. Raises BlockingIOError where another process does, and this one does not wait."""
    import fcntl

    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A pipe in which every signal to this process is a byte."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = {number: signal.signal(number, _nothing) for number in wanted}
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _nothing(number: int, frame: FrameType | None) -> None:
    """The byte in the pipe is all that is wanted."""


def _heard(pipe: int) -> bytes:
    """The signals that came, waiting a turn for the first."""
    if not select.select([pipe], [], [], TURN_S)[0]:
        return b""
    with contextlib.suppress(BlockingIOError):
        return os.read(pipe, 1024)
    return b""
