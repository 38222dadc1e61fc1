"""Thrift's compact encoding, as a tree of plain values: as much of it as the footer of a Parquet file needs."""

from __future__ import annotations

from typing import Any

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
"""The codes of types; 4, 5 and 6 are whole numbers of 16, 32 and 64 bits."""

Struct = dict[int, tuple[int, Any]]
"""Field number: its type's code, and its value. A list is (type's code, values)."""


def read_struct(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """The struct that starts at a place, and the place after it. Raises ValueError for what is none.

    >>> read_struct(write_struct({1: (5, -3), 20: (8, b"ab")}))[0]
    {1: (5, -3), 20: (8, b'ab')}
    """
    found: Struct = {}
    number = 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if step:
            number += step
        else:
            number, at = _whole(data, at)
        if kind in (TRUE, FALSE):
            found[number] = (kind, kind == TRUE)
        else:
            value, at = _value(data, at, kind)
            found[number] = (kind, value)
    return found, at + 1


def write_struct(struct: Struct) -> bytes:
    """The bytes of a struct."""
    made = bytearray()
    before = 0
    for number, (kind, value) in struct.items():
        step = number - before
        before = number
        made += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _zigzag(number)
        if kind not in (TRUE, FALSE):
            made += _bytes(kind, value)
    return bytes(made) + b"\0"


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE, BYTE):
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _whole(data, at)
    if kind == DOUBLE:
        return data[at : at + 8], at + 8
    if kind == BINARY:
        size, at = _varint(data, at)
        return data[at : at + size], at + size
    if kind in (LIST, SET):
        return _list(data, at)
    if kind == STRUCT:
        return read_struct(data, at)
    raise ValueError(f"no type of Thrift has the code {kind} here")


def _list(data: bytes, at: int) -> tuple[tuple[int, list[Any]], int]:
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    values = []
    for _ in range(size):
        value, at = _value(data, at, kind)
        values.append(value)
    return (kind, values), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _whole(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _bytes(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE, BYTE):
        return bytes([value])
    if kind in (4, 5, 6):
        return _zigzag(value)
    if kind == DOUBLE:
        return bytes(value)
    if kind == BINARY:
        return _length(len(value)) + bytes(value)
    if kind in (LIST, SET):
        inner, values = value
        head = bytes([len(values) << 4 | inner]) if len(values) < 15 else bytes([0xF0 | inner]) + _length(len(values))
        return head + b"".join(_bytes(inner, item) for item in values)
    return write_struct(value)


def _zigzag(value: int) -> bytes:
    return _length((value << 1) ^ (value >> 63))


def _length(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)
