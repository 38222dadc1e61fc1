"""The output before it is whole: a file beside it that grows, and a journal of what of it can be relied on."""

from __future__ import annotations

import contextlib
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec

from modelmill.bulk.formats import Piece
from modelmill.data.stream import Mark
from modelmill.errors import SourceError, WorkError
from modelmill.store.disk import sync_folder

SYNC_BYTES = 64 << 20
SYNC_S = 1.0
"""What is lost at most when the run is killed or the power fails: so much that was written, or of so many seconds."""


class Key(msgspec.Struct, frozen=True):
    """What must be the same for a run to go on: the input, the model, and how it is run."""

    files: tuple[tuple[str, int, int, str], ...]
    """Of every file: its name, size, time of change, and a digest of its ends."""
    model: str
    """The digest of the graph, or of all that a pipeline runs."""
    settings: tuple[str, ...]


class Entry(msgspec.Struct, frozen=True):
    """A line of the journal: the answers to one more block are in the file."""

    end: int
    """The size of the file with them."""
    rows: int
    mark: Mark
    """Where the next block begins."""
    note: str = ""


class Unfinished:
    """The growing file of one output and its journal; state: both open files, and what was not synced yet.

    Raises WorkError where another run is writing the same output.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.part = output.with_name(f".{output.name}.part")
        self.journal = output.with_name(f".{output.name}.part.journal")
        self.entries: list[Entry] = []
        self._data: IO[bytes] | None = None
        self._lines: IO[bytes] | None = None
        self._pending: list[Entry] = []
        self._unsynced = 0
        self._synced = time.monotonic()

    def __enter__(self) -> Unfinished:
        try:
            lines = self.journal.open("a+b")
        except OSError as error:
            raise self._refused(error) from None
        if not _locked(lines):
            lines.close()
            raise WorkError(str(self.output), "another run is writing it", "Wait for it, or give another --output.")
        self._lines = lines
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._data is not None:
                self.sync()
        finally:
            for file in (self._data, self._lines):
                if file is not None:
                    file.close()

    def open(self, key: Key, head: bytes, fresh: bool) -> str:
        """Take up what an earlier run left, or start anew; why what was left is of no use, or ''."""
        found, entries, why = self._read(key)
        try:
            if fresh or not found:
                self._start(key, head)
                return "" if fresh else why
            self.entries = entries
            self._data = self.part.open("r+b")
            self._data.truncate(entries[-1].end if entries else len(head))
            self._data.seek(0, os.SEEK_END)
            self._rewrite(key)
        except OSError as error:
            raise self._refused(error) from None
        return ""

    @property
    def rows(self) -> int:
        """How many rows are answered."""
        return sum(entry.rows for entry in self.entries)

    @property
    def mark(self) -> Mark:
        """Where the next block begins."""
        return self.entries[-1].mark if self.entries else Mark()

    def append(self, piece: Piece, mark: Mark) -> None:
        """Write the answers to one more block."""
        assert self._data is not None, "it was opened"
        try:
            self._data.write(piece.data)
            entry = Entry(self._data.tell(), piece.rows, mark, b64encode(piece.note).decode())
            self.entries.append(entry)
            self._pending.append(entry)
            self._unsynced += len(piece.data)
            if self._unsynced >= SYNC_BYTES or time.monotonic() - self._synced >= SYNC_S:
                self.sync()
        except OSError as error:
            raise self._refused(error) from None

    def sync(self) -> None:
        """Make what was written survive a power cut: first the answers, then the journal that speaks of them."""
        # Taken first: an interruption may lose entries, and must not write them twice.
        pending, self._pending = self._pending, []
        if not pending:
            return
        assert self._data is not None, "it was opened"
        assert self._lines is not None, "it was opened"
        try:
            self._data.flush()
            os.fsync(self._data.fileno())
            self._lines.write(b"".join(msgspec.json.encode(entry) + b"\n" for entry in pending))
            self._lines.flush()
            os.fsync(self._lines.fileno())
        except OSError as error:
            raise self._refused(error) from None
        self._unsynced = 0
        self._synced = time.monotonic()

    def notes(self, head: int) -> Iterator[tuple[int, bytes]]:
        """The place and the note of every piece; `head` is the place of the first."""
        for entry in self.entries:
            yield head, b64decode(entry.note)
            head = entry.end

    def finish(self, foot: bytes) -> int:
        """Write the end, and give the file its name; how large it is."""
        assert self._data is not None, "it was opened"
        self.sync()
        try:
            self._data.write(foot)
            self._data.flush()
            os.fsync(self._data.fileno())
            size = self._data.tell()
            self.part.replace(self.output)
            sync_folder(self.output.parent)
            self.journal.unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from None
        return size

    def discard(self) -> None:
        """Leave nothing behind, where nothing was answered."""
        if not self.entries:
            for path in (self.part, self.journal):
                path.unlink(missing_ok=True)

    def _start(self, key: Key, head: bytes) -> None:
        self.entries = []
        self._data = self.part.open("w+b")
        self._data.write(head)
        self._rewrite(key)

    def _rewrite(self, key: Key) -> None:
        """The journal with the entries that hold and no others: a line that a kill cut short is gone."""
        assert self._lines is not None, "it was opened"
        self._lines.truncate(0)
        self._pending = list(self.entries)
        self._lines.write(msgspec.json.encode(key) + b"\n")
        assert self._data is not None, "it was opened"
        if not self._pending:
            self._data.flush()
            os.fsync(self._data.fileno())
            self._lines.flush()
        self.sync()

    def _read(self, key: Key) -> tuple[bool, list[Entry], str]:
        """Whether an earlier run left something that holds, what, and else why not."""
        assert self._lines is not None, "it was opened"
        self._lines.seek(0)
        first, *lines = self._lines.read().split(b"\n")
        if not first or not self.part.exists():
            return False, [], ""
        earlier = _decoded(first, Key)
        if earlier != key:
            return False, [], _difference(earlier, key)
        entries: list[Entry] = []
        size = self.part.stat().st_size
        for line in lines:
            entry = _decoded(line, Entry)
            if entry is None or not (entries[-1].end if entries else 0) < entry.end <= size:
                break
            entries.append(entry)
        return True, entries, ""

    def _refused(self, error: OSError) -> SourceError:
        return SourceError(str(self.output), f"cannot be written: {error.strerror}", "Try another folder.")


def _decoded(line: bytes, kind: type[Any]) -> Any:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(line, type=kind)
    return None


def _difference(earlier: Key | None, key: Key) -> str:
    if earlier is None:
        return "the journal of an earlier run cannot be read"
    if earlier.model != key.model:
        return "an earlier run was with another model"
    return "the input is not what it was" if earlier.files != key.files else "an earlier run had other settings"


def _locked(file: IO[bytes]) -> bool:
    """Keep the file for this process until it is closed, if no other has it; where there are no such locks, trust."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
