"""The child process that weighs one model: a parcel on standard input, bytes of growth on standard output."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

Array = np.ndarray[Any, Any]


class Column(msgspec.Struct, array_like=True):
    """One input as plain bytes, or as strings."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes
    words: list[str] = []


class Parcel(msgspec.Struct, array_like=True):
    """An ONNX file, and the inputs of the calls to make."""

    model: bytes
    calls: list[dict[str, Column]]


def pack(model: bytes, calls: Sequence[Mapping[str, Array]]) -> bytes:
    """A parcel for the child, without pickle."""
    packed = [{name: _pack(array) for name, array in call.items()} for call in calls]
    return msgspec.msgpack.encode(Parcel(model, packed))


def _pack(array: Array) -> Column:
    if array.dtype == object:
        return Column("object", array.shape, b"", [str(word) for word in array.ravel()])
    return Column(array.dtype.str, array.shape, array.tobytes())


def unpack(parcel: bytes) -> tuple[bytes, list[dict[str, Array]]]:
    """The ONNX file and the inputs of each call."""
    read = msgspec.msgpack.decode(parcel, type=Parcel)
    return read.model, [{name: _unpack(column) for name, column in call.items()} for call in read.calls]


def _unpack(column: Column) -> Array:
    if column.dtype == "object":
        return np.array(column.words, dtype=object).reshape(column.shape)
    return np.frombuffer(column.content, column.dtype).reshape(column.shape)


def main() -> None:
    """Read a parcel, load the model, make the calls, and print by how many bytes the process grew."""
    import psutil

    from modelmill.runtime.session import Session

    model, calls = unpack(sys.stdin.buffer.read())
    process = psutil.Process()
    before = process.memory_info().rss
    session = Session(model, threads=1, spinning=False)
    for call in calls:
        session.run(call)
    sys.stdout.write(str(max(process.memory_info().rss - before, 0)))


if __name__ == "__main__":
    main()
