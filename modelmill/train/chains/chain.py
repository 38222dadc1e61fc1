"""Markov chains on disk: chunks that are only ever added, each a safetensors file that vouches for those before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelmill.errors import SourceError, StorageError, WorkError
from modelmill.store.disk import PARTIAL, make_folder, refused, write_file

KEY = "modelmill"
"""Where the file's header keeps what is no tensor."""
SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some epochs of a run: what was drawn in them, and what is needed to go on after them.

    Names of tensors begin with `draw/` (chains, draws, ...), `trace/` (chains, epochs) or `state/`.
    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """Numbers, of which JSON keeps every bit."""


class Chain:
    """The chunks of one run, in a folder or, without one, in memory.

    Every file holds the digest of its content and of the chunk before. A last file that is not whole, as a kill or a
    power cut leaves it, does not count: the run repeats what was in it, to the same bits.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder, self.key = folder, key
        self._memory: list[Chunk] = []
        self._digests = [""]
        if folder is not None:
            self._digests += [digest for _, digest in _read(folder, key)]

    def __len__(self) -> int:
        return len(self._memory) if self.folder is None else len(self._digests) - 1

    def append(self, chunk: Chunk) -> None:
        """Add a chunk; with a folder it survives a power cut when this returns. Raises StorageError."""
        if self.folder is None:
            kept = {name: value for name, value in chunk.tensors.items() if not name.startswith("state/")}
            self._memory.append(Chunk(kept, chunk.state))
            return
        make_folder(self.folder)
        _sweep(self.folder)
        path = _path(self.folder, len(self))
        digest = _digest(chunk, self.key, self._digests[-1])
        write_file(path, _packed(chunk, self.key, self._digests[-1], digest))
        self._digests.append(digest)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, from the first, one at a time in memory where they lie in a folder."""
        if self.folder is None:
            yield from self._memory
        else:
            yield from (chunk for chunk, _ in _read(self.folder, self.key))

    def last(self) -> Chunk | None:
        """The chunk to go on from; None at the start, and in memory."""
        found = None
        for chunk in self.chunks() if self.folder is not None else ():
            found = chunk
        return found

    def joined(self, prefix: str) -> dict[str, Tensor]:
        """All draws or traces by name, without `draw/` or `trace/`, side by side over all chunks."""
        parts: dict[str, list[Tensor]] = {}
        for chunk in self.chunks():
            for name, value in chunk.tensors.items():
                if name.startswith(prefix + "/"):
                    parts.setdefault(name.removeprefix(prefix + "/"), []).append(value)
        return {name: torch.cat(found, 1) for name, found in parts.items()}


def read(folder: Path) -> Chain:
    """The chain in a folder, to look at. Raises SourceError where there is none, or where it is damaged."""
    first = _path(folder, 0)
    if not first.is_file():
        raise SourceError(str(folder), "there is no chain in this folder", "Name one of the folders within `store`.")
    return Chain(folder, _header(first)["key"])


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}{SUFFIX}"


def _read(folder: Path, key: str) -> Iterator[tuple[Chunk, str]]:
    """The chunks of a folder with their digests, up to the first that is missing, or not whole and the last."""
    before, number = "", 0
    while (path := _path(folder, number)).is_file():
        try:
            chunk, digest = _unpacked(path, key, before)
        except SourceError:
            if _path(folder, number + 1).is_file():
                raise
            return
        yield chunk, digest
        before, number = digest, number + 1


def _packed(chunk: Chunk, key: str, before: str, digest: str) -> bytes:
    from safetensors.torch import save

    header = {"key": key, "before": before, "digest": digest, "state": chunk.state}
    owned = {name: value.detach().clone().contiguous() for name, value in chunk.tensors.items()}
    packed: bytes = save(owned, {KEY: json.dumps(header, sort_keys=True)})
    return packed


def _unpacked(path: Path, key: str, before: str) -> tuple[Chunk, str]:
    """A chunk and its digest. Raises SourceError for a damaged file, WorkError for that of another run."""
    from safetensors import SafetensorError, safe_open

    header = _header(path)
    if header["key"] != key:
        raise WorkError(
            str(path), "the chain belongs to a run with other settings, data or seed", "Name another store."
        )
    try:
        with safe_open(path, "pt") as file:
            chunk = Chunk({name: file.get_tensor(name) for name in file.keys()}, header["state"])  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    digest = _digest(chunk, key, before)
    if digest != header["digest"]:
        raise _damaged(path, "its digest is not that of its content after the chunk before")
    return chunk, digest


def _header(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise refused(path, error) from error
    return header


def _damaged(path: Path, reason: str) -> SourceError:
    hint = "Delete it and the files after it: the same call draws them again."
    return SourceError(str(path), f"the chunk is damaged: {reason}", hint)


def _digest(chunk: Chunk, key: str, before: str) -> str:
    """SHA-256 of the run, the chunk before, numbers and tensors."""
    total = hashlib.sha256(json.dumps([key, before, chunk.state], sort_keys=True).encode())
    for name, value in sorted(chunk.tensors.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().contiguous().numpy().tobytes())
    return total.hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    try:
        for path in folder.glob(f".*{PARTIAL}"):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(str(folder), f"the disk refuses: {error.strerror}", "Check who owns the folder.") from error
