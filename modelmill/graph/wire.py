"""Writes an ONNX model as bytes with one copy of its weights; protobuf's own writer makes two, and keeps none small."""

from __future__ import annotations

from io import BytesIO
from typing import Any

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""The numbers of these fields in onnx.proto: of a model, of a graph, of a tensor."""


def serialized(model: Any) -> bytes:
    """The bytes of a model: the same every time. Initializers come last."""
    start, tensors = _laid(model)
    out = BytesIO()
    out.write(start)
    for tensor, (bare, size, whole) in zip(model.graph.initializer, tensors, strict=True):
        out.write(_key(INITIALIZER, whole) + bare)
        if size:
            out.write(_key(RAW_DATA, size))
            out.write(tensor.raw_data)
    return out.getvalue()


def weighed(model: Any) -> int:
    """How many bytes that would be."""
    start, tensors = _laid(model)
    return len(start) + sum(len(_key(INITIALIZER, whole)) + whole for _, _, whole in tensors)


def _laid(model: Any) -> tuple[bytes, list[tuple[bytes, int, int]]]:
    """All that comes before the initializers, and of each its bytes without raw data, those of that, and of both."""
    import onnx

    head, body = onnx.ModelProto(), onnx.GraphProto()
    _take(model, head, "graph")
    _take(model.graph, body, "initializer")
    tensors = []
    for tensor in model.graph.initializer:
        bare, size = _bare(tensor), len(tensor.raw_data)
        tensors.append((bare, size, len(bare) + (len(_key(RAW_DATA, size)) + size if size else 0)))
    start = body.SerializeToString(deterministic=True)
    total = len(start) + sum(len(_key(INITIALIZER, whole)) + whole for _, _, whole in tensors)
    return head.SerializeToString(deterministic=True) + _key(GRAPH, total) + start, tensors


def _take(source: Any, target: Any, without: str) -> None:
    """Copy all fields but one."""
    for field, value in source.ListFields():
        if field.name == without:
            continue
        if isinstance(value, int | float | str | bytes):
            setattr(target, field.name, value)
        elif hasattr(value, "CopyFrom"):
            getattr(target, field.name).CopyFrom(value)
        else:
            getattr(target, field.name).extend(value)


def _bare(tensor: Any) -> bytes:
    """The bytes of a tensor without its raw data."""
    import onnx

    bare = onnx.TensorProto()
    _take(tensor, bare, "raw_data")
    data: bytes = bare.SerializeToString(deterministic=True)
    return data


def _key(field: int, size: int) -> bytes:
    """What stands before the bytes of a field: its number and how many they are.

    >>> _key(7, 300).hex()
    '3aac02'
    """
    found = bytearray()
    for number in (field << 3 | 2, size):
        while number > 127:
            found.append(number & 127 | 128)
            number >>= 7
        found.append(number)
    return bytes(found)
