"""A folder of bytes under their own digests: written whole, never changed, verified when read.

Bytes lie there as they are, or packed under the digest of what they open to; whoever reads them need not know.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import string
from pathlib import Path

from modelmill.errors import StorageError, Tampered
from modelmill.store.disk import PARTIAL, make_folder, refused, sync_folder, write_file

PREFIX = "sha256:"
PACKED = ".packed"
"""How the name of a packed file ends."""


def digest_of(data: bytes) -> str:
    """The digest of some bytes.

    >>> digest_of(b"")[:20]
    'sha256:e3b0c44298fc1'
    """
    return PREFIX + hashlib.sha256(data).hexdigest()


class Blobs:
    """Bytes by digest, in one folder that several processes share."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser().absolute()

    def put(self, data: bytes, stored: bytes | None = None) -> str:
        """Keep some bytes; their digest. When it returns they survive a power cut; putting them again changes nothing.

        Raises StorageError, and leaves no half-written file.

        stored: the form in which they are kept, where it is another; they are then no longer kept as they are.
        """
        digest = digest_of(data)
        plain = self.path(digest)
        if stored is None or stored is data:
            self._keep(plain, data)
        else:
            self._keep(_packed(plain), stored)
            with _refusals(plain), contextlib.suppress(FileNotFoundError):
                plain.unlink()
        return digest

    def _keep(self, path: Path, data: bytes) -> None:
        make_folder(self.folder)
        if self._holds(path, data):
            # Another process may have renamed it a moment ago without having synced the folder yet.
            with _refusals(path):
                os.utime(path)
                sync_folder(self.folder)
        else:
            write_file(path, data)

    def get(self, digest: str, most: int | None = None) -> bytes:
        """The bytes of a digest. Raises Tampered where they are not the bytes that were put.

        most: a packed file that states more bytes is refused before it is opened.
        """
        path = self.path(digest)
        try:
            data = self._read(path, most)
        except FileNotFoundError:
            raise StorageError(
                str(path), "the file is missing", "Restore the blob folder from a copy, or publish anew."
            ) from None
        found = digest_of(data)
        if found != digest:
            raise Tampered(
                str(path),
                f"the stored bytes have the digest {found}, not their own",
                "They were changed after they were published. Restore the file from a copy, or publish anew.",
            )
        return data

    def _read(self, path: Path, most: int | None) -> bytes:
        """The bytes of a file as they are, or from its packed form; that may have come while we looked."""
        with _refusals(path), contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        packed = _packed(path)
        with _refusals(packed):
            data = packed.read_bytes()
        from modelmill.store.packing.packed import unpack  # brings numpy, which not every command needs

        try:
            return unpack(data, most)
        except StorageError as error:
            hint = "It was changed after it was published. Restore the file from a copy, or publish anew."
            raise Tampered(str(packed), error.message, hint) from error

    def has(self, digest: str) -> bool:
        """Whether there is a file for a digest; its bytes are not looked at."""
        return self.path(digest).is_file() or _packed(self.path(digest)).is_file()

    def stored(self, digest: str) -> int:
        """How many bytes are kept for a digest: fewer than it has where they are packed, none where they are gone."""
        found = (path for path in (_packed(self.path(digest)), self.path(digest)) if path.is_file())
        return next((path.stat().st_size for path in found), 0)

    def opened(self, digest: str, most: int | None = None) -> Path:
        """A file with the bytes of a digest as they are, to be mapped and never written; made where they are packed."""
        path = self.path(digest)
        data = self.get(digest, most)
        if not path.is_file():
            write_file(path, data)
        return path

    def path(self, digest: str) -> Path:
        """Where the bytes of a digest are as they are, or would be."""
        hexadecimal = digest.removeprefix(PREFIX)
        if len(hexadecimal) != 64 or not set(hexadecimal) <= set(string.hexdigits.lower()):
            raise StorageError(str(self.folder), f"{digest!r} is no digest", "One looks like sha256:e3b0c442...")
        return self.folder / hexadecimal

    def delete(self, digest: str) -> None:
        """Forget some bytes; forgetting what is not there is no error."""
        for path in (self.path(digest), _packed(self.path(digest))):
            with _refusals(path), contextlib.suppress(FileNotFoundError):
                path.unlink()

    def older(self, moment_s: float) -> dict[str, int]:
        """Digest: size of everything that was last put before a moment, in seconds since 1970.

        What a process left half-written when it was killed before that moment is removed on the way.
        """
        found: dict[str, int] = {}
        with _refusals(self.folder), contextlib.suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                stood = path.stat()
                if stood.st_mtime < moment_s and path.suffix == PARTIAL:
                    path.unlink()
                elif stood.st_mtime < moment_s and len(path.name.removesuffix(PACKED)) == 64:
                    digest = PREFIX + path.name.removesuffix(PACKED)
                    found[digest] = found.get(digest, 0) + stood.st_size
        return found

    def _holds(self, path: Path, data: bytes) -> bool:
        """Whether the very bytes are there already; damaged ones are written again."""
        try:
            with _refusals(path):
                return path.stat().st_size == len(data) and path.read_bytes() == data
        except FileNotFoundError:
            return False


def _packed(path: Path) -> Path:
    """Where the packed form of a file is, or would be."""
    return path.with_name(path.name + PACKED)


class _refusals(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a verb in `with`
    """Tell the disk's errors as StorageErrors; that a file is not there is for the caller to judge."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise refused(self.path, error) from error
