"""The home folder: where the database, the blobs and the runs lie."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from modelmill.errors import StorageError
from modelmill.store.blobs import Blobs
from modelmill.store.database import Database
from modelmill.store.disk import make_folder


MADE_S = 1.0
"""How long another process may take from making the database's file to writing its first page."""


@dataclass(frozen=True)
class Home:
    """A folder of its owner's alone, with everything that modelmill keeps; the URLs may point elsewhere."""

    path: Path
    database_url: str = ""
    """Empty: an SQLite file in the folder."""
    store_url: str = ""
    """Empty: a folder in the folder."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).expanduser().absolute())

    @cached_property
    def database(self) -> Database:
        """The database; it is made at its first use. Raises StorageError where its file was emptied."""
        if self.database_url:
            return Database(self.database_url)
        file = self.path / "modelmill.db"
        if self._emptied(file):
            said = f"the file is empty, and {self.path / 'blobs'} holds the files of models: it was cut off, or written over"
            raise StorageError(str(file), said, "Put a copy of it back; or move it away, and begin with nothing.")
        return Database(f"sqlite:///{file.as_posix()}")

    def _emptied(self, file: Path) -> bool:
        """Whether the database's file is empty beside blobs, and not because another process makes it right now."""
        until = time.monotonic() + MADE_S
        while file.exists() and file.stat().st_size == 0 and not self.blobs.empty:
            if time.monotonic() > until:
                return True
            time.sleep(0.05)
        return False

    @cached_property
    def blobs(self) -> Blobs:
        """The blob folder; it is made at its first use."""
        return Blobs(folder_of(self.store_url) if self.store_url else self.path / "blobs")

    @property
    def steps(self) -> Path:
        """The folder of finished steps of compression; it is made at its first use."""
        return self.path / "steps"

    @property
    def runs(self) -> Path:
        """The folder of the runs' own folders: specs, reports, checkpoints."""
        folder = self.path / "runs"
        make_folder(folder)
        return folder


def folder_of(url: str) -> Path:
    """The folder that a store URL names: `file://` and a path, or a path alone.

    >>> folder_of("file:///srv/blobs").as_posix()
    '/srv/blobs'
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).expanduser().absolute()
    if scheme != "file":
        raise StorageError(
            "MODELMILL_STORE_URL", f"{scheme}:// is not among the stores so far", "It takes file:///PATH or a path."
        )
    return Path(rest).absolute()
