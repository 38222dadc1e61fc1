"""This node's cache of forms in which models load in milliseconds: an optimised graph, its weights beside it, mapped.

A form is a folder of its own. It is written aside by a child process, digested, and renamed into place, so that it is
there whole or not at all, however many processes write it; later loads compare the files' identity with the one that
they had when they were digested, and digest them again where anything differs. What is damaged is thrown away, and
made again from the published bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnxruntime

from modelmill.errors import StorageError
from modelmill.runtime.forming import GRAPH, File, Formed, identity, request
from modelmill.runtime.processor import instructions
from modelmill.store.blobs import Blobs
from modelmill.store.disk import PARTIAL, make_folder, sync_folder, write_file

Array = np.ndarray[Any, Any]

ROOT = Path(__file__).parents[3]
FORMAT = 1
MANIFEST = "manifest.json"
SECONDS = 900.0
"""How long a child may take."""
STALE_S = 3600.0
"""What was left half-written so long ago is removed."""
SPARE_BYTES = 100_000_000
"""What must stay free on the disk."""
ROOM = 3
"""A form may take so many times the bytes of its model, while it is written."""


class Form(NamedTuple):
    """A form that may be loaded: the optimised graph, and the bytes of all its files."""

    graph: Path
    size: int

    def threads(self, cores: int) -> int:
        """How many threads a run is to have where there are so many cores; 0 where that was not measured yet."""
        try:
            text = self.graph.with_name(f"threads-{cores}").read_text("ascii").strip()
        except (OSError, ValueError):
            return 0
        return int(text) if text.isdigit() and 0 < int(text) <= cores else 0

    def keep_threads(self, cores: int, threads: int) -> None:
        """Write down what was measured; where that cannot be written, it is measured again."""
        with contextlib.suppress(StorageError):
            write_file(self.graph.with_name(f"threads-{cores}"), str(threads).encode())


class Manifest(msgspec.Struct, frozen=True):
    """What a form is, and its files as they were when they were digested; `check` is the digest of both."""

    model: str
    formed: Formed
    check: str = ""

    def sealed(self) -> Manifest:
        """The manifest with its own digest."""
        return msgspec.structs.replace(self, check=self.digest())

    def digest(self) -> str:
        """The digest of everything else."""
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, check=""))).hexdigest()


class Forms:
    """The folder of forms, which processes share; what was used longest ago goes when it grows too large.

    blobs: where the child process that makes a form reads the model.
    """

    def __init__(self, folder: Path, blobs: Blobs, most_bytes: int = 20_000_000_000) -> None:
        self.folder = folder
        self.blobs = blobs
        self.most_bytes = most_bytes
        self.refused: dict[str, float] = {}
        """Forms that could not be made, and when that was."""
        self.child: subprocess.Popen[bytes] | None = None
        self.closed = False

    def place(self, model: str) -> Path:
        """Where the form of a model is on this processor, with this runtime; model is the digest of its bytes."""
        bound = [FORMAT, model, onnxruntime.__version__, *instructions()]
        return self.folder / hashlib.sha256(msgspec.json.encode(bound)).hexdigest()[:40]

    def find(self, model: str) -> Form | None:
        """The form of a model, if it is there and whole. One that is damaged is removed."""
        folder = self.place(model)
        try:
            found = _verified(folder, model)
            with contextlib.suppress(OSError):
                os.utime(folder / MANIFEST)
        except FileNotFoundError:
            if folder.exists():  # a file of it is gone
                self._discard(folder)
            return None
        except (_Damaged, msgspec.DecodeError):
            self._discard(folder)
            return None
        except (OSError, StorageError):
            return None
        if not found.fit:
            self.refused[model] = time.monotonic()
            return None
        return Form(folder / GRAPH, sum(file.size for file in found.files.values()))

    def may_be_made(self, model: str, again_s: float = 600.0) -> bool:
        """Whether nobody found a moment ago that this form cannot be made."""
        tried = self.refused.get(model)
        return tried is None or time.monotonic() - tried > again_s

    def make(self, model: str, size_bytes: int, columns: Mapping[str, Array]) -> Form | None:
        """The form of a model of that size, made now or by another process meanwhile; None where it cannot be had.

        Waits for seconds, and holds no copy of the model.
        """
        folder = self.place(model)
        try:
            make_folder(self.folder)
            with _alone(self.folder / f".{folder.name}.lock"):
                found = self.find(model)
                if found is not None or not self.may_be_made(model):
                    return found
                self._make(folder, model, size_bytes, columns)
        except (OSError, StorageError, subprocess.SubprocessError):
            self.refused[model] = time.monotonic()
            return None
        return self.find(model)

    def _make(self, folder: Path, model: str, size_bytes: int, columns: Mapping[str, Array]) -> None:
        self._sweep(folder, ROOM * size_bytes)
        if shutil.disk_usage(self.folder).free < ROOM * size_bytes + SPARE_BYTES:
            raise StorageError(str(self.folder), "too little space for a form that loads fast", "")
        part = self.folder / f".{folder.name}.{secrets.token_hex(4)}{PARTIAL}"
        try:
            part.mkdir(mode=0o700)
            formed = self._child(part, request(self.blobs, model, size_bytes, columns))
            if not formed.fit:
                for path in part.iterdir():
                    path.unlink()
            manifest = msgspec.json.encode(Manifest(model, formed).sealed())
            write_file(part / MANIFEST, manifest)
            with contextlib.suppress(FileNotFoundError):
                self._discard(folder)
            part.rename(folder)
            sync_folder(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _child(self, folder: Path, request: bytes) -> Formed:
        """What a child process made of a model. Raises OSError or SubprocessError where it failed or took too long."""
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "modelmill.runtime.forming", str(folder)]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=nothing) as child:
            self.child = child
            try:
                if self.closed:
                    child.kill()
                said, _ = child.communicate(request, timeout=SECONDS)
            finally:
                child.kill()
                self.child = None
        try:
            return msgspec.json.decode(said, type=Formed)
        except msgspec.DecodeError:
            raise OSError(f"the child ended with code {child.returncode} and gave no answer") from None

    def close(self) -> None:
        """Make nothing more; a child that is at it is ended, and what it wrote is removed."""
        self.closed = True
        child = self.child
        if child is not None:
            child.kill()

    def _discard(self, folder: Path) -> None:
        """Take a form away at once, whoever has it mapped; its bytes go after it."""
        aside = self.folder / f".{folder.name}.{secrets.token_hex(4)}{PARTIAL}"
        with contextlib.suppress(OSError):
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _sweep(self, keep: Path, wanted: int) -> None:
        """Remove what was left half-written, and the forms that were used longest ago until there is room."""
        forms: list[tuple[float, int, Path]] = []
        for folder in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if folder.suffix == PARTIAL:
                    mine = folder.name.startswith(f".{keep.name}.")  # we hold its lock: whoever wrote it is dead
                    if mine or time.time() - folder.stat().st_mtime > STALE_S:
                        shutil.rmtree(folder, ignore_errors=True)
                elif folder.is_dir() and folder != keep:
                    size = sum(path.stat().st_size for path in folder.iterdir())
                    forms.append(((folder / MANIFEST).stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in forms) + wanted
        for _, size, folder in sorted(forms):
            if total <= self.most_bytes:
                return
            self._discard(folder)
            total -= size


class _Damaged(Exception):
    """A form is not what was made."""


def _verified(folder: Path, model: str) -> Formed:
    """What was formed, if its files are what they were; they are read only where they were touched."""
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    if manifest.check != manifest.digest() or manifest.model != model:
        raise _Damaged
    files = {name: _seen(folder / name, file) for name, file in manifest.formed.files.items()}
    if files == manifest.formed.files:
        return manifest.formed
    for name, file in files.items():
        if _digest(folder / name) != file.digest or file.size != manifest.formed.files[name].size:
            raise _Damaged
    again = Manifest(model, msgspec.structs.replace(manifest.formed, files=files)).sealed()
    with contextlib.suppress(StorageError):  # read-only: they are digested the next time, too
        write_file(folder / MANIFEST, msgspec.json.encode(again))
    return again.formed


def _seen(path: Path, file: File) -> File:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise _Damaged
    return identity(found, file.digest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that one process of this machine has at a time; it is gone with the process that held it."""
    try:
        import fcntl
    except ImportError:  # no such locks: two may write, and one of them wins
        yield
        return
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
