"""Writing files so that they are there whole, even after a power cut, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from modelmill.errors import StorageError

PARTIAL = ".part"
"""How the name of a file ends that is not whole yet."""

ADVICE = {
    errno.ENOSPC: "Free some space on the disk; nothing was changed.",
    errno.EDQUOT: "Free some of your disk quota; nothing was changed.",
    errno.EIO: "The disk fails; look at the system's log before anything else is written to it.",
    errno.EROFS: "The file system is read-only; set MODELMILL_HOME to a folder that can be written.",
    errno.EACCES: "Check who owns the folder, or set MODELMILL_HOME to a folder of yours.",
    errno.EPERM: "Check who owns the folder, or set MODELMILL_HOME to a folder of yours.",
    errno.EMFILE: "Too many files are open; raise the limit (`ulimit -n`) or start fewer workers.",
}
"""What to try when the operating system refuses."""


def refused(path: Path, error: OSError) -> StorageError:
    """The operating system's refusal, with what to try."""
    what = error.strerror or str(error)
    advice = ADVICE.get(error.errno or 0, "Check the folder; nothing was changed.")
    return StorageError(str(path), f"the disk refuses: {what}", advice)


def write_file(path: Path, data: bytes) -> None:
    """Put a file in place, whole and durable: a temporary file, fsync, rename, fsync of the folder.

    Raises StorageError, and leaves what was there.
    """
    # In the same folder, since a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        _write_synced(temporary, data)
        temporary.replace(path)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    _sync(path)


def _write_synced(path: Path, data: bytes) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(number, rest) :]
        os.fsync(number)
    finally:
        os.close(number)


def _sync(path: Path) -> None:
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise refused(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    if os.name == "nt":
        return  # Windows has no handle for this, and orders renames itself.
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def make_folder(folder: Path) -> None:
    """Make a folder that its owner alone can enter; one that is there is left as it is."""
    if folder.is_dir():
        return
    try:
        if not folder.parent.is_dir():
            make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise refused(folder, error) from error
