"""The access log: one JSON object a line for requests that failed, and for a part of the others; no payloads."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from modelmill.errors import WorkError
from modelmill.serve.signals.draw import Draw
from modelmill.serve.signals.figures import is_failure


class Journal:
    """Writes lines; it holds the file, which is opened anew where it was moved away.

    path: empty for standard error. ratio: the part of requests that is told although they did not fail, 0 to 1.
    """

    def __init__(self, path: Path | None = None, ratio: float = 0.0) -> None:
        self._path = path
        self._draw = Draw(ratio)
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self.lost = 0
        """Lines that could not be written: a full disk must not keep a request from its answer."""
        if path is not None:
            try:
                self._file = path.open("ab", buffering=0)
            except OSError as error:
                said = f"cannot be written: {error.strerror or error}"
                raise WorkError(f"--log {path}", said, "Name a file in a folder that is there.") from None

    def wants(self, code: int) -> bool:
        """Whether an answer of this code is to be told: asked before anything is put together."""
        return self._draw.hits() or is_failure(code)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Write one line, whole; one that cannot be written is lost, and the first such is told."""
        line = orjson.dumps(entry) + b"\n"
        try:
            with self._lock:
                if self._file is None:
                    sys.stderr.write(line.decode())
                    sys.stderr.flush()
                else:
                    self._file.write(line)
        except (OSError, ValueError) as error:
            self.lost += 1
            if self.lost == 1 and self._file is not None:
                with contextlib.suppress(OSError, ValueError):
                    print(f"modelmill serve: the access log cannot be written: {error}", file=sys.stderr)

    def reopen(self) -> None:
        """Write to a new file of the same name, after the present one was moved away."""
        if self._path is not None:
            with self._lock:
                old, self._file = self._file, self._path.open("ab", buffering=0)
                if old is not None:
                    old.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
