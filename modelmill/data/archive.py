"""The arrays in a NumPy archive, read without ever running what is pickled in it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from modelmill.data.cells import Array
from modelmill.errors import SourceError

HINT = "Write it with numpy.savez(path, x=..., y=...)."


def read_arrays(path: Path) -> dict[str, Array]:
    """Every array in an .npz file, by name. Raises SourceError for a damaged file and for pickled objects."""
    if path.is_dir():
        raise SourceError(str(path), "is a folder, expected an .npz file", "Give the file.")
    if path.stat().st_size == 0:
        raise SourceError(str(path), "is empty", HINT)
    if not zipfile.is_zipfile(path):
        raise SourceError(str(path), "is no .npz file", HINT)
    name = ""
    found: dict[str, Array] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                found[name] = archive[name]
    except (OSError, EOFError, ValueError, MemoryError, KeyError, zipfile.BadZipFile, zlib.error, SyntaxError) as error:
        inside = f"{path}: {name}" if name else str(path)
        if "allow_pickle" in str(error):
            hint = "Write plain arrays of numbers or text."
            raise SourceError(inside, "holds pickled objects, which are never loaded", hint) from None
        raise SourceError(inside, f"cannot be read: {error}", HINT) from None
    for name in ("x", "y", "x_test", "y_test"):
        if name in found and not (isinstance(found[name], np.ndarray) and found[name].ndim):
            raise SourceError(f"{path}: {name}", "is no array of rows", HINT)
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}
