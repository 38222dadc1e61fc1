"""The models that were unloaded by name, and are not served until they are loaded by name."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path


class Withheld:
    """Names; the processes of one service share them in a file of a folder, and follow what the others did.

    folder: None for a process that is alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / "unloaded.json" if folder is not None else None
        self._names: frozenset[str] = frozenset()
        self.follow()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Withhold a model, in every process."""
        with self._alone():
            self._write(self._names | {name})

    def discard(self, name: str) -> bool:
        """Serve a model again, in every process; whether it was withheld."""
        with self._alone():
            was = name in self._names
            self._write(self._names - {name})
        return was

    def follow(self) -> frozenset[str]:
        """What another process has withheld since the last look."""
        before, self._names = self._names, self._read()
        return self._names - before

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes the names meanwhile."""
        if self._path is None:
            yield
            return
        import fcntl  # several processes share a port on Linux alone

        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._names = self._read()
            yield

    def _read(self) -> frozenset[str]:
        if self._path is None:
            return self._names
        try:
            return frozenset(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return frozenset()

    def _write(self, names: frozenset[str]) -> None:
        self._names = names
        if self._path is not None:
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(sorted(names)))
            fresh.replace(self._path)
