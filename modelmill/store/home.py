"""The home folder: where the database, the blobs and the runs lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from modelmill.errors import StorageError
from modelmill.store.blobs import Blobs
from modelmill.store.database import Database
from modelmill.store.disk import make_folder


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
        """The database; it is made at its first use."""
        return Database(self.database_url or f"sqlite:///{self.path.as_posix()}/modelmill.db")

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
