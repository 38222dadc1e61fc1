"""A folder of results that can be made again: what was used longest ago goes first."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from modelmill.store.disk import PARTIAL


@dataclass(frozen=True)
class Cache:
    """Bytes under keys of the caller's, shared by processes; whoever reads them must be able to tell torn ones."""

    folder: Path
    most_bytes: int = 1_000_000_000
    """What the folder may hold."""

    def find(self, key: str) -> Path | None:
        """The file of a key, from now on the one that was used last; None where there is none."""
        path = self.folder / key
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def put(self, key: str, data: bytes) -> None:
        """Keep some bytes; where the disk is full, or refuses, they are not kept."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{key}.{os.getpid()}{PARTIAL}"
            part.write_bytes(data)
            part.replace(self.folder / key)
            self._make_room()

    def _make_room(self) -> None:
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.iterdir()]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files, key=lambda row: row[0]):
            if total <= self.most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size
