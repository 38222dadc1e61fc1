"""Finds the numbers in an ONNX file by its wire format alone, so that the service needs no library for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SMALLEST = 64
"""Tensors with fewer bytes stay with the words around them."""
DEEPEST = 16
"""How many graphs may lie within graphs."""

BITS = {1: 32, 4: 16, 5: 16, 6: 32, 7: 64, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 21: 4, 22: 4, 23: 4}
"""How many bits a number takes, by ONNX's number for its type; all others are taken for bytes."""

LENGTH = 2
"""The wire type of fields that say how long they are."""
SIZES = {1: 8, 5: 4}
"""Bytes of fixed fields, by wire type."""

GRAPH_OF_MODEL, NODE_OF_GRAPH, TENSOR_OF_GRAPH, ATTRIBUTE_OF_NODE = 7, 1, 5, 5
TENSOR_OF_ATTRIBUTE, GRAPH_OF_ATTRIBUTE = 5, 6
DIMS, TYPE, RAW = 1, 2, 9
"""Fields of a tensor."""


class Numbers(NamedTuple):
    """A run of numbers in a file: where it lies, how many bits a number takes, and how many make a row."""

    start: int
    end: int
    bits: int
    width: int


class Malformed(Exception):
    """The bytes do not have the wire format."""


def numbers(data: bytes) -> list[Numbers]:
    """The runs of numbers in an ONNX file, in their order; none in any other file."""
    try:
        fields = list(_fields(data, 0, len(data)))
        found = [
            run for field, _, start, end in fields if field == GRAPH_OF_MODEL for run in _graph(data, start, end, 0)
        ]
    except Malformed:
        return []
    return sorted(run for run in found if run.end - run.start >= SMALLEST)


def _graph(data: bytes, start: int, end: int, depth: int) -> Iterator[Numbers]:
    if depth > DEEPEST:
        return
    for field, kind, first, last in _fields(data, start, end):
        if kind == LENGTH and field == TENSOR_OF_GRAPH:
            yield from _tensor(data, first, last)
        elif kind == LENGTH and field == NODE_OF_GRAPH:
            for attribute, inner, begin, close in _fields(data, first, last):
                if inner == LENGTH and attribute == ATTRIBUTE_OF_NODE:
                    yield from _attribute(data, begin, close, depth)


def _attribute(data: bytes, start: int, end: int, depth: int) -> Iterator[Numbers]:
    for field, kind, first, last in _fields(data, start, end):
        if kind == LENGTH and field == TENSOR_OF_ATTRIBUTE:
            yield from _tensor(data, first, last)
        elif kind == LENGTH and field == GRAPH_OF_ATTRIBUTE:
            yield from _graph(data, first, last, depth + 1)


def _tensor(data: bytes, start: int, end: int) -> Iterator[Numbers]:
    kind_of_number, width, rows, raw = 0, 1, 0, None
    for field, kind, first, last in _fields(data, start, end):
        if field == DIMS:
            for size in _dims(data, kind, first, last):
                width, rows = (width * size, rows) if rows else (width, size)
        elif field == TYPE:
            kind_of_number = _varint(data, first, last)[0]
        elif field == RAW and kind == LENGTH:
            raw = first, last
    if raw is not None:
        yield Numbers(*raw, BITS.get(kind_of_number, 8), max(width, 1))


def _dims(data: bytes, kind: int, start: int, end: int) -> Iterator[int]:
    """The sizes of a tensor: one field each, or all of them in one."""
    while start < end:
        size, start = _varint(data, start, end)
        yield size
        if kind != LENGTH:
            return


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Field number, wire type, and where the content begins and ends."""
    while start < end:
        key, start = _varint(data, start, end)
        kind = key & 7
        if kind == LENGTH:
            length, start = _varint(data, start, end)
            after = start + length
        elif kind == 0:
            after = _varint(data, start, end)[1]
        elif kind in SIZES:
            after = start + SIZES[kind]
        else:
            raise Malformed
        if after > end:
            raise Malformed
        yield key >> 3, kind, start, after
        start = after


def _varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if start >= end:
            raise Malformed
        group = data[start]
        start += 1
        value |= (group & 127) << shift
        if group < 128:
            return value, start
    raise Malformed
