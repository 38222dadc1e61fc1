"""Takes tensors that lie in files of their own into the model: only from its own folder, and never through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from modelmill.errors import ModelError

MOST = 2**31 - 1
"""What one ONNX file may hold, in bytes."""


def take_in(model: Any, folder: Path, where: str) -> None:
    """Put the bytes of every tensor that lies elsewhere into the model, in place.

    Raises ModelError, naming tensor and place, for a place outside the folder, a link, a file that is no plain one or
    too short, and for more than one ONNX file may hold.
    """
    import onnx

    from modelmill.graph.vet import size_of, tensors

    total = 0
    for tensor in tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        spot = f"{where}: tensor {tensor.name[:80]!r}"
        places = {entry.key: entry.value for entry in tensor.external_data}
        wanted = size_of(tensor, spot)
        tensor.raw_data = _bytes(folder, places, wanted, MOST - total, spot)
        total += wanted
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT


def _bytes(folder: Path, places: Mapping[str, str], wanted: int, room: int, where: str) -> bytes:
    """The bytes of one tensor, from the place that it names, if there is room for as many."""
    location = places.get("location", "")
    offset = _number(places.get("offset", "0"), f"{where}: offset")
    length = _number(places.get("length") or str(wanted), f"{where}: length")
    if length != wanted:
        raise ModelError(where, f"it lies in {length} bytes, and its shape wants {wanted}", "Export the model anew.")
    try:
        file = _opened(folder, location, where)
    except OSError as error:
        hint = "Put the model and its files into one folder."
        raise ModelError(where, f"its file {location[:200]!r} cannot be read: {error.strerror}", hint) from None
    with os.fdopen(file, "rb") as opened:
        seen = os.fstat(file)
        if not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1:
            message = f"its file {location[:200]!r} is no plain file, or has other names (hard links)"
            raise ModelError(where, message, "Copy the file into the model's folder.")
        if offset + length > seen.st_size:
            message = f"its file {location[:200]!r} has {seen.st_size} bytes, wanted are {offset} to {offset + length}"
            raise ModelError(where, message, "The file is truncated, or another one's: copy it anew.")
        if length > room:
            raise ModelError(
                where, "the tensors in other files are over 2 GB", "One ONNX file holds 2 GB: quantize it."
            )
        opened.seek(offset)
        return opened.read(length)


def _opened(folder: Path, location: str, where: str) -> int:
    """The file in the folder, opened step by step, so that no link is followed and none can come between."""
    parts = PurePosixPath(location).parts
    outside = not parts or location.startswith("/") or PureWindowsPath(location).drive or "\\" in location
    if outside or ".." in parts or "\0" in location:
        message = f"its data are said to lie in {location[:200]!r}, which is not inside of the model's folder"
        raise ModelError(where, message, "Only files beside the model, or below it, are read.")
    if not hasattr(os, "O_NOFOLLOW") or os.open not in os.supports_dir_fd:
        return _plainly(folder.joinpath(*parts), folder, where)
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            try:
                # A pipe would keep us waiting for whoever writes into it.
                flags = os.O_NOFOLLOW | (os.O_NONBLOCK if last else os.O_DIRECTORY)
                inner = os.open(part, os.O_RDONLY | flags, dir_fd=here)
            except OSError:
                if stat.S_ISLNK(os.stat(part, dir_fd=here, follow_symlinks=False).st_mode):
                    raise _linked(location, where) from None
                raise
            os.close(here)
            here = inner
    except BaseException:
        os.close(here)
        raise
    return here


def _plainly(path: Path, folder: Path, where: str) -> int:
    """Where folders cannot be opened one in another: no part of the path may be a link."""
    between = [path, *path.parents]
    if any(part.is_symlink() for part in between[: between.index(folder)]):
        raise _linked(str(path), where)
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def _linked(location: str, where: str) -> ModelError:
    message = f"its data lie behind the link {location[:200]!r}, which may lead anywhere"
    return ModelError(where, message, "Copy the files themselves into one folder (cp -L).")


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ModelError(where, f"came {text[:40]!r}, expected a number of bytes", "Export the model anew.")
    return int(text)
