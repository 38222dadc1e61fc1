"""Paths that hold data: what is there, of what kind, and words for what is not."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from modelmill.errors import SourceError

SUFFIXES: dict[str, str] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npz": "npz",
}
"""The ends of file names, and the source that reads them."""

KNOWN = "Known are .csv, .tsv (also .gz), .parquet, .npz, and folders of IDX files or of parts of one table."


def existing(path: str) -> Path:
    """The path, if something is there. Raises SourceError with the closest names in the same folder."""
    found = Path(path).expanduser()
    try:
        if found.exists():
            return found
    except (OSError, ValueError) as error:
        raise SourceError(path, f"is no path: {error}", "Give the path of a file or of a folder.") from None
    beside = [entry.name for entry in found.parent.iterdir()] if found.parent.is_dir() else []
    close = get_close_matches(found.name, beside, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(close)}?" if close else "Give the path of a file or of a folder that exists."
    raise SourceError(path, "there is no such file or folder", hint)


def suffix_source(path: Path) -> str:
    """The source that reads files with this end of name, or ''."""
    name = path.name.lower()
    return next((source for suffix, source in SUFFIXES.items() if name.endswith(suffix)), "")


def is_idx(path: Path) -> bool:
    """Whether a file has one of the names that IDX files have, such as `train-images-idx3-ubyte.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith("-ubyte") and "idx" in name


def source_of(path: Path) -> str:
    """The name of the source that reads a file or folder. Raises SourceError where none does."""
    if path.is_dir():
        return _folder_source(path)
    if not path.is_file():
        raise SourceError(str(path), "is neither a file nor a folder", KNOWN)
    source = "idx" if is_idx(path) else suffix_source(path)
    if not source:
        raise SourceError(str(path), f"no source reads files that end in {path.suffix or path.name!r}", KNOWN)
    return source


def _folder_source(folder: Path) -> str:
    files = [entry for entry in entries(folder) if entry.is_file()]
    if any(is_idx(file) for file in files):
        return "idx"
    found = sorted({suffix_source(file) for file in files} & {"csv", "parquet"})
    if len(found) == 1:
        return found[0]
    if found:
        raise SourceError(str(folder), "the folder holds both CSV and Parquet files", "Give one of the files.")
    raise SourceError(str(folder), "the folder holds no data that is known here", KNOWN)


def entries(folder: Path) -> list[Path]:
    """What is in a folder, in order of name, without hidden files."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "_")))
    except OSError as error:
        raise SourceError(str(folder), f"cannot be read: {error.strerror}", "Check who may read it.") from None


def parts(path: Path, source: str) -> Sequence[Path]:
    """The files of a table: the file itself, or those in a folder that the source reads."""
    if not path.is_dir():
        return [path]
    found = [entry for entry in entries(path) if entry.is_file() and suffix_source(entry) == source]
    if not found:
        raise SourceError(str(path), f"the folder holds no {source} file", KNOWN)
    return found
