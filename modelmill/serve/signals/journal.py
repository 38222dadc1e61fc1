"""The access log: one JSON object a line for requests that failed, and for a part of the others; no payloads."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import orjson

from modelmill.errors import WorkError

PIPE_BYTES = 4096
"""What is written to a pipe in one piece is not torn apart by another process up to this size (Linux, pipe(7))."""


class Journal:
    """Writes lines; it holds the file, which is opened anew where it was moved away.

    path: empty for standard error.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._mend = b""
        """What ends a line that was cut short because the disk was full."""
        self.lost = 0
        """Lines that could not be written: a full disk must not keep a request from its answer."""
        if path is not None:
            try:
                self._file = path.open("ab", buffering=0)
            except OSError as error:
                said = f"cannot be written: {error.strerror or error}"
                raise WorkError(f"--log {path}", said, "Name a file in a folder that is there.") from None

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write lines, each whole; those that cannot be written are lost, and the first time this is told."""
        left = [orjson.dumps(entry) + b"\n" for entry in entries]
        data = b""
        try:
            with self._lock:
                while left:
                    count = _together(left)
                    data = b"".join(left[:count])
                    del left[:count]
                    if self._mend:
                        self._put(self._mend)
                        self._mend = b""
                    while data:
                        data = data[self._put(data) :]
                        self._mend = b"\n" if data else b""
        except (OSError, ValueError) as error:
            if not self.lost and self._file is not None:
                with contextlib.suppress(OSError, ValueError):
                    print(f"modelmill serve: the access log cannot be written: {error}", file=sys.stderr)
            self.lost += data.count(b"\n") + len(left)

    def _put(self, data: bytes) -> int:
        """Write, and say how many bytes were."""
        if self._file is not None:
            return self._file.write(data)
        sys.stderr.write(data.decode())
        sys.stderr.flush()
        return len(data)

    def reopen(self) -> None:
        """Write to a new file of the same name, after the present one was moved away."""
        if self._path is not None:
            with self._lock:
                old, self._file = self._file, self._path.open("ab", buffering=0)
                self._mend = b""
                if old is not None:
                    old.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def _together(lines: Sequence[bytes]) -> int:
    """How many lines, one at least, go into a pipe in one piece, which no other process writes into."""
    count, size = 1, len(lines[0])
    while count < len(lines) and size + len(lines[count]) <= PIPE_BYTES:
        size += len(lines[count])
        count += 1
    return count
