"""Writes a model in the form in which it loads in milliseconds: an optimised graph, its weights beside it to be mapped.

That takes seconds and much memory, and is the work of a child process:

    python -m modelmill.runtime.forming FOLDER < REQUEST

The form is bound to the processor and to onnxruntime's version. What it answers is compared with what the model itself
answers; a form that answers otherwise is marked as unfit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.runtime.session import Session, options
from modelmill.store.blobs import Blobs
from modelmill.store.disk import sync_folder

GRAPH, WEIGHTS = "model.onnx", "weights.bin"
INLINE_BYTES = 1024
"""Weights up to this stay in the graph."""


class Column(msgspec.Struct, frozen=True):
    """An input to compare with: its type, its shape, and the numbers as bytes, or the texts."""

    dtype: str
    shape: list[int]
    numbers: bytes = b""
    texts: list[str] = []

    def array(self) -> Array:
        """The input as an array."""
        if self.dtype == "object":
            found = np.empty(len(self.texts), object)
            found[:] = self.texts
        else:
            found = np.frombuffer(self.numbers, self.dtype)
        return found.reshape(self.shape)


class Request(msgspec.Struct, frozen=True):
    """A model, by its digest and the folder of blobs that has it, and an input to compare with, if one is known."""

    blobs: str
    model: str
    size_bytes: int
    columns: dict[str, Column] = {}


class File(msgspec.Struct, frozen=True):
    """One file of a form, as it was when its bytes were digested."""

    digest: str
    size: int
    device: int
    inode: int
    changed_ns: int


class Formed(msgspec.Struct, frozen=True):
    """What became of a model: the files of its form, and whether it answers as the model itself does."""

    fit: bool
    files: dict[str, File] = {}


def request(blobs: Blobs, model: str, size_bytes: int, columns: Mapping[str, Array]) -> bytes:
    """What the child is sent. It reads the model itself: whoever serves holds no copy while it works."""
    sent = {
        name: Column("object", list(values.shape), texts=[str(text) for text in values.ravel()])
        if values.dtype == object
        else Column(values.dtype.str, list(values.shape), values.tobytes())
        for name, values in columns.items()
    }
    return msgspec.msgpack.encode(Request(str(blobs.folder), model, size_bytes, sent))


def form(request: Request, folder: Path) -> Formed:
    """Write the form of a model into a folder, synced; what became of it.

    Raises ModelError for what is no model, StorageError where its bytes are not there as they were put.
    """
    chosen = options()
    chosen.optimized_model_filepath = str(folder / GRAPH)
    for key, value in (
        ("optimized_model_external_initializers_file_name", WEIGHTS),
        ("optimized_model_external_initializers_min_size_in_bytes", str(INLINE_BYTES)),
        ("save_external_prepacked_constant_initializers", "1"),
    ):
        chosen.add_session_config_entry(f"session.{key}", value)
    whole = Session(Blobs(request.blobs).get(request.model, request.size_bytes), chosen=chosen)
    columns = {name: column.array() for name, column in request.columns.items()}
    answer = whole.run(columns) if columns else {}
    del whole  # its memory goes before that of others comes
    if not _alike(answer, folder / GRAPH, columns):
        return Formed(False)
    found = {path.name: _file(path) for path in sorted(folder.iterdir())}
    sync_folder(folder)
    return Formed(True, found)


def _alike(answer: Mapping[str, Array], graph: Path, columns: Mapping[str, Array]) -> bool:
    """Whether the form answers to the bit as the model does, and nearly so before its weights are packed."""
    for exact in (True, False):
        try:
            session = Session(graph, made=exact, lean=not exact)
            found = session.run(columns) if columns else {}
        except ModelError:
            return False
        del session
        if not all(same(answer[name], found[name], exact) for name in answer):
            return False
    return True


def same(ours: Array, theirs: Array, exact: bool) -> bool:
    """Whether two outputs are equal, or within what the order of sums does to floats."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if ours.dtype.kind != "f":
        return bool((ours == theirs).all())
    if exact:
        return bool(np.array_equal(ours, theirs, equal_nan=True))
    scale = float(np.abs(np.nan_to_num(ours)).max(initial=0.0))
    return bool(np.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * scale, equal_nan=True))


def _file(path: Path) -> File:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), 0o400)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return identity(os.fstat(file.fileno()), digest)


def identity(stat: os.stat_result, digest: str) -> File:
    """A file as it stands on the disk: any change of it changes this."""
    return File(digest, stat.st_size, stat.st_dev, stat.st_ino, max(stat.st_ctime_ns, stat.st_mtime_ns))


def main() -> None:
    """Form what comes on standard input; the answer is JSON on standard output."""
    with contextlib.suppress(OSError):
        os.nice(5)  # requests come first
    onnxruntime.set_default_logger_severity(4)
    wanted, folder = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request), Path(sys.argv[1])
    try:
        found = form(wanted, folder)
    except ModelError:
        found = Formed(False)
    if not found.fit and shutil.disk_usage(folder).free < wanted.size_bytes:
        sys.exit("the disk is full")  # that says nothing of the model
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
