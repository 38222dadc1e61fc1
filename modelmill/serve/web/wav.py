"""A WAV file of plain PCM: its samples as whole numbers, if the lengths that it states are true."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelmill.errors import RequestError

Array = np.ndarray[Any, Any]

HEAD = struct.Struct("<4sI")
"""A chunk's name, and how many bytes it has."""

FORM = struct.Struct("<HHIIHH")
"""Code, channels, frames a second, bytes a second, bytes of a frame, bits of a sample."""

PCM, EXTENSIBLE = 1, 0xFFFE
AS_PCM = bytes.fromhex("0100000000001000800000aa00389b71")
"""What an extensible form says of samples that are PCM."""

BITS = (8, 16, 24, 32)

CHUNKS_MOST = 1000
"""Chunks of one file: a large one of nothing else would take long."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples of shape (frames, channels), the bytes that one has in the file, and the frames a second."""

    samples: Array
    width: int
    rate: int


def read(body: bytes) -> Sound:
    """The sound in a WAV file. Raises RequestError."""
    found: dict[bytes, memoryview] = {}
    for name, content in _chunks(memoryview(body)):
        if name in found and name in (b"fmt ", b"data"):
            raise _unreadable(f"it has the chunk {name.decode()!r} twice")
        found[name] = content
    if b"fmt " not in found or b"data" not in found:
        raise _unreadable("it does not have both the chunks 'fmt ' and 'data'")
    channels, width, rate = _form(found[b"fmt "])
    data = found[b"data"]
    if not data:
        raise RequestError("body", "has no samples", "Send a sound of one sample or more.")
    if len(data) % (width * channels):
        raise _unreadable(f"{len(data)} bytes of samples are not whole frames of {width * channels} bytes")
    return Sound(_whole_numbers(data, width).reshape(-1, channels), width, rate)


def _chunks(file: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The chunks of a file, each with its name, to the file's end."""
    if len(file) < 12 or (bytes(file[:4]), bytes(file[8:12])) != (b"RIFF", b"WAVE"):
        raise _unreadable(f"it begins with {bytes(file[:12])!r}, expected RIFF, a length, and WAVE")
    (_, size), at, count = HEAD.unpack_from(file), 12, 0
    if len(file) - HEAD.size not in (size, size + size % 2):
        raise _unreadable(f"it says that {size} bytes follow its first 8, came {len(file) - HEAD.size}")
    while at < len(file):
        count += 1
        if len(file) - at < HEAD.size or count > CHUNKS_MOST:
            raise _unreadable(f"{len(file) - at} bytes follow where its chunks should end")
        name, size = HEAD.unpack_from(file, at)
        at += HEAD.size
        if size > len(file) - at or not name.decode("latin-1").isprintable():
            raise _unreadable(f"its chunk {name!r} says {size} bytes, and {len(file) - at} are left")
        yield name, file[at : at + size]
        at += size + size % 2  # a chunk begins at an even place


def _form(chunk: memoryview) -> tuple[int, int, int]:
    """Channels, bytes of a sample, and frames a second."""
    if len(chunk) < FORM.size:
        raise _unreadable(f"its chunk 'fmt ' has {len(chunk)} bytes, expected {FORM.size} or more")
    code, channels, rate, _, frame, bits = FORM.unpack_from(chunk)
    if code == EXTENSIBLE and chunk[24:40] == AS_PCM:
        code = PCM
    if code != PCM:
        raise _unreadable(f"its samples are of format {code}, expected {PCM}, which is PCM")
    if bits not in BITS:
        raise _unreadable(f"its samples have {bits} bits, expected 8, 16, 24 or 32")
    if not channels or frame != channels * bits // 8:
        raise _unreadable(f"it says {frame} bytes a frame of {channels} channels with {bits} bits")
    if not rate:
        raise _unreadable("it says 0 frames a second")
    return channels, bits // 8, rate


def _whole_numbers(data: memoryview, width: int) -> Array:
    """Samples as whole numbers around 0."""
    if width == 1:
        return np.frombuffer(data, np.uint8).astype(np.int16) - 128
    if width != 3:
        return np.frombuffer(data, f"<i{width}")
    padded = np.zeros((len(data) // 3, 4), np.uint8)
    padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return padded.view("<i4").reshape(-1) >> 8


def _unreadable(words: str) -> RequestError:
    return RequestError("body", f"is no WAV that can be read: {words}", "Send the whole file, as plain PCM.")
