"""Series of numbers that one process writes and others read, in a mapped file: adding to one is an addition in memory.

A file holds entries one after the other: the length of the key and the number of values (4 bytes each), the key padded
to 8 bytes, then the values as doubles. The first 8 bytes say how much of the file is used, and are written last, so
that a reader finds whole entries. A process that takes up the file of a dead one goes on where that stood.
"""

from __future__ import annotations

import mmap
import operator
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from modelmill.errors import StorageError

BYTES = 64 * 1024 * 1024
"""The size of a file. It is sparse: what is not used takes no room."""

START = 8

MOMENTS = '["last"'
"""How keys begin whose values are moments, in seconds since 1970, of which the last counts."""

BEGINNINGS = '["since"'
"""How keys begin whose values are moments of which the first counts; 0 is none."""


class Slots:
    """The series of this process; it holds the map."""

    def __init__(self, path: Path | None = None, size_bytes: int = BYTES) -> None:
        self.path = path
        if path is None:
            self._map = mmap.mmap(-1, size_bytes)
        else:
            with path.open("a+b") as file:
                file.truncate(size_bytes)
                self._map = mmap.mmap(file.fileno(), size_bytes)
        self._bytes = memoryview(self._map)
        self._known = dict(_entries(self._bytes))
        self._lock = threading.Lock()

    def claim(self, key: str, width: int) -> memoryview[float]:
        """The values of a key: (width,) doubles to be read and written, zeros at first.

        Raises StorageError where the file is full: a figure that nobody can read must not look like a zero.
        """
        with self._lock:  # a fold may be on another thread than the loop
            known = self._known.get(key)
            return known if known is not None and len(known) == width else self._add(key, width)

    def _add(self, key: str, width: int) -> memoryview[float]:
        used = max(START, struct.unpack_from("<Q", self._bytes, 0)[0])
        name = key.encode()
        begin = used + 8 + _padded(len(name))
        end = begin + 8 * width
        if end > len(self._bytes):
            raise StorageError(
                "figures", f"{len(self._known)} series fill the file", "Serve fewer models in a process."
            )
        struct.pack_into("<II", self._bytes, used, len(name), width)
        self._bytes[used + 8 : used + 8 + len(name)] = name
        struct.pack_into("<Q", self._bytes, 0, end)
        view = self._bytes[begin:end].cast("d")
        self._known[key] = view
        return view

    def values(self) -> Mapping[str, Sequence[float]]:
        """Every series as it is now."""
        with self._lock:
            return {key: view.tolist() for key, view in self._known.items()}


def read(path: Path) -> dict[str, Sequence[float]]:
    """The series in the file of another process, as they are now; nothing where there is no file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            used = struct.unpack_from("<Q", mapped, 0)[0]
            return {key: view.tolist() for key, view in _entries(memoryview(mapped[: max(used, START)]))}
    except (FileNotFoundError, ValueError):
        return {}


def merged(many: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """The sums of series of the same key; of moments the last, or the first.

    >>> merged([{"a": [1.0, 2.0]}, {"a": [1.0, 0.0], "b": [3.0]}, {'["last", "iris"]': [7.0]}])
    {'a': [2.0, 2.0], 'b': [3.0], '["last", "iris"]': [7.0]}
    >>> merged([{'["since"]': [7.0]}, {'["since"]': [0.0]}, {'["since"]': [5.0]}])
    {'["since"]': [5.0]}
    """
    sums: dict[str, list[float]] = {}
    for one in many:
        for key, values in one.items():
            present = sums.get(key)
            sums[key] = list(values) if present is None else list(map(_together(key), present, values))
    return sums


def _together(key: str) -> Callable[[float, float], float]:
    """What the values of a key are together."""
    if key.startswith(BEGINNINGS):
        return lambda a, b: min(a or b, b or a)
    return max if key.startswith(MOMENTS) else operator.add


def _entries(data: memoryview[int]) -> Iterator[tuple[str, memoryview[float]]]:
    used = struct.unpack_from("<Q", data, 0)[0]
    at = START
    while at < used:
        length, width = struct.unpack_from("<II", data, at)
        begin = at + 8 + _padded(length)
        yield bytes(data[at + 8 : at + 8 + length]).decode(), data[begin : begin + 8 * width].cast("d")
        at = begin + 8 * width


def _padded(length: int) -> int:
    return (length + 7) // 8 * 8
