"""Keeps a copy of a damaged database beside it, so that no attempt to repair it can lose what is left."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

DAMAGE = ("not a database", "malformed", "file is encrypted")
"""What SQLite says of a file that it cannot make sense of."""


def damaged(message: str) -> bool:
    """Whether an error of SQLite tells of a damaged file."""
    return any(words in message for words in DAMAGE)


def rescue(path: Path) -> Path | None:
    """A copy of the file and of its log, named by when the file was last written: one copy for one damage.

    None where it cannot be made.
    """
    try:
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        copy = path.with_name(f"{path.name}.corrupt-{written:%Y%m%dT%H%M%SZ}")
        if not copy.exists():
            part = copy.with_name(f"{copy.name}.part")
            shutil.copy2(path, part)
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(f"{path}-wal", f"{copy}-wal")
            part.replace(copy)
    except OSError:
        return None
    return copy
