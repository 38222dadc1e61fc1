"""The IDX format of MNIST: a magic number, dimensions, and raw values."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from modelmill.data.cells import Array
from modelmill.data.files import entries
from modelmill.errors import SourceError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
HINT = "Download or write the file again."


def read_idx(path: Path) -> Array:
    """The array in an IDX file, `.gz` or not, in the byte order of this machine.

    Raises SourceError for a wrong magic number and for a body that is shorter or longer than the header says.
    """
    try:
        with _open(path) as file:
            shape, dtype = _header(path, file)
            wanted = math.prod(shape) * dtype.itemsize
            body = file.read(wanted)
            more = file.read(1)
    except (OSError, EOFError, zlib.error, MemoryError, OverflowError) as error:
        raise SourceError(str(path), f"cannot be read: {error}", HINT) from None
    if len(body) < wanted or more:
        came = f"{len(body)} bytes" if len(body) < wanted else f"more than {wanted} bytes"
        raise SourceError(str(path), f"holds {came} of values; expected {wanted} for the shape {shape}", HINT)
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    magic = file.read(4)
    if not magic:
        raise SourceError(str(path), "is empty", HINT)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= 4:
        came = f"0x{magic.hex()}"
        raise SourceError(str(path), f"has the magic number {came}; expected one such as 0x00000803", HINT)
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise SourceError(str(path), "ends within its header", HINT)
    return struct.unpack(f">{magic[3]}I", sizes), np.dtype(TYPES[magic[2]])


def find(folder: Path, stem: str) -> Path | None:
    """The file of a folder whose name starts so: `train-images` finds `train-images-idx3-ubyte.gz`."""
    for file in entries(folder):
        name = file.name.lower().removesuffix(".gz")
        if name.startswith((f"{stem}-idx", f"{stem}.idx")) and name.endswith("-ubyte") and file.is_file():
            return file
    return None


def pair(folder: Path, stem: str) -> tuple[Path, Path] | None:
    """The files of images and labels of one set, `train` or `t10k`; None where neither is there."""
    images, labels = find(folder, f"{stem}-images"), find(folder, f"{stem}-labels")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        lacks = "images" if images is None else "labels"
        name = f"{stem}-{lacks}-idx{3 if images is None else 1}-ubyte"
        raise SourceError(str(folder), f"holds no {lacks} for {stem!r}", f"Expected {name} or {name}.gz.")
    return images, labels


def labels_of(images: Path) -> Path:
    """The labels beside a file of images. Raises SourceError where there are none."""
    stem = images.name.lower().partition("-images")[0]
    found = find(images.parent, f"{stem}-labels")
    if found is None:
        raise SourceError(str(images), "has no file of labels beside it", f"Expected {stem}-labels-idx1-ubyte.")
    return found
