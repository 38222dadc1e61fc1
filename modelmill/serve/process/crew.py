"""What the processes of one service know of each other: how many they are, and which of them are ready."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from modelmill.errors import UsageError

VARIABLE = "MODELMILL_WORKER"
"""Tells a process that it is a worker: its index, how many there are, their ports, the supervisor, and their folder."""

BOARD = "ready"
"""The file with a byte a worker: 0 while it is not ready; while it is, another one with every beat."""

CHANGES = "changes"
"""The file with two numbers a worker, all the first ones before all the second: how many changes it has made, and how
many of all workers' changes it has followed."""

NUMBER_BYTES = 8

LOOK_S = 0.05
"""How often a worker looks whether another one has made a change, or followed its own."""


@dataclass(frozen=True)
class Worker:
    """One of several processes that serve the same port.

    index: from 0; the one that takes the place of a dead one has the same. folder: for files that they share.
    """

    index: int
    count: int
    port: int
    grpc_port: int
    supervisor: int
    folder: Path

    def told(self) -> str:
        """The worker as a process is told that it is one."""
        return f"{self.index}:{self.count}:{self.port}:{self.grpc_port}:{self.supervisor}:{self.folder}"


def worker_of(text: str) -> Worker | None:
    """The worker that a process is; None for one that is told nothing.

    >>> worker_of("1:4:8080:8081:7:/run/it").index
    1
    """
    if not text:
        return None
    try:
        index, count, port, grpc_port, supervisor, folder = text.split(":", 5)
        return Worker(int(index), int(count), int(port), int(grpc_port), int(supervisor), Path(folder))
    except ValueError:
        raise UsageError(VARIABLE, f"{text[:80]!r} is not what a supervisor says", "Leave it unset.") from None


class Board:
    """Which workers are ready, in memory that all of them map."""

    def __init__(self, folder: Path, count: int) -> None:
        self._bytes = _mapped(folder / BOARD, count)

    def mark(self, index: int, ready: bool) -> None:
        """A worker is ready, or no longer."""
        self._bytes[index] = int(ready)

    def beat(self, index: int) -> None:
        """A worker is ready, and its loop turns."""
        self._bytes[index] = self._bytes[index] % 255 + 1

    def beats(self, index: int) -> int:
        """What a worker's byte is now."""
        return self._bytes[index]

    @property
    def is_whole(self) -> bool:
        """Whether all are ready."""
        return self._bytes.find(b"\0") < 0


class Changes:
    """How far every worker has followed what the others changed by name, in memory that all of them map.

    A number is written by one worker alone, the one whose it is.
    """

    def __init__(self, folder: Path, count: int, index: int) -> None:
        """index: the worker that this process is."""
        numbers = memoryview(_mapped(folder / CHANGES, 2 * count * NUMBER_BYTES)).cast("Q")
        self._made, self._followed = numbers[:count], numbers[count:]
        self.index = index

    @property
    def made(self) -> int:
        """How many changes all workers have made."""
        return sum(self._made)

    def make(self) -> int:
        """This worker has made a change; how many there are now."""
        self._made[self.index] += 1
        return self.made

    def follow(self, made: int) -> None:
        """This worker has followed so many changes."""
        self._followed[self.index] = made

    def behind(self, made: int) -> list[int]:
        """The other workers that have not followed so many changes."""
        return [at for at, followed in enumerate(self._followed) if at != self.index and followed < made]


def _mapped(path: Path, size_bytes: int) -> mmap.mmap:
    """The bytes of a file that processes share, 0 at first."""
    with path.open("a+b") as file:
        file.truncate(size_bytes)
        return mmap.mmap(file.fileno(), size_bytes)


def follow(supervisor: int) -> None:
    """End as SIGTERM does when the supervisor dies: nobody would look after this process, or end it."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != supervisor:  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
