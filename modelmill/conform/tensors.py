"""Tensors that any model of given inputs should take, and the reading of those that come back."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelmill.conform.deviation import Deviation, shown, wanted
from modelmill.signature import DTYPES

Array = np.ndarray[Any, Any]
Document = dict[str, Any]

SIZES = {"BF16": 2, **{name: np.dtype(dtype).itemsize for name, dtype in DTYPES.items() if name != "BYTES"}}
"""Bytes of an element."""

DATATYPES = ("BYTES", *SIZES)

IN_JSON: dict[str, tuple[type, ...]] = {"BYTES": (str,), "BOOL": (bool,)}
"""The JSON types of an element; of all others numbers."""


def sizes(tensor: Mapping[str, Any], rows: int) -> list[int]:
    """A shape that fits a tensor's metadata: `rows` where its first size is any, 1 where another is.

    >>> sizes({"shape": [-1, 3, -1]}, 2)
    [2, 3, 1]
    """
    return [(rows if place == 0 else 1) if size < 0 else size for place, size in enumerate(tensor["shape"])]


def values(tensor: Mapping[str, Any], rows: int) -> list[Any]:
    """Zeros, flat: the text `a`, false, 0."""
    zero: Any = {"BYTES": "a", "BOOL": False}.get(tensor["datatype"], 0)
    return [zero] * math.prod(sizes(tensor, rows))


def in_json(tensor: Mapping[str, Any], rows: int = 1, nested: bool = False) -> Document:
    """A tensor of zeros as the JSON of a request."""
    shape = sizes(tensor, rows)
    data = values(tensor, rows)
    if nested:
        for size in shape[:0:-1]:
            data = [data[start : start + size] for start in range(0, len(data), size)] if size else []
    return {"name": tensor["name"], "shape": shape, "datatype": tensor["datatype"], "data": data}


def in_bytes(tensor: Mapping[str, Any], rows: int = 1) -> bytes:
    """A tensor of zeros as bytes."""
    count = math.prod(sizes(tensor, rows))
    if tensor["datatype"] == "BYTES":
        return (struct.pack("<I", 1) + b"a") * count
    return bytes(count * SIZES[tensor["datatype"]])


def check_tensor(tensor: Any, listed: Mapping[str, Any], at: str = "outputs") -> None:
    """Raise Deviation where an output is not what the metadata say it is."""
    wanted(isinstance(tensor, dict), f"{at} holds {shown(tensor)}")
    name = tensor.get("name")
    wanted(name in listed, f"an output named {shown(name)}, which the metadata do not have")
    known = listed[name]
    wanted(tensor.get("datatype") == known["datatype"], f"{name} as {shown(tensor.get('datatype'))}")
    shape = tensor.get("shape")
    sound = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    wanted(sound, f"{name} with the shape {shown(shape)}")
    fits = len(shape) == len(known["shape"]) and all(
        limit in (-1, size) for limit, size in zip(known["shape"], shape, strict=True)
    )
    wanted(fits, f"{name} with the shape {shape}; its metadata say {known['shape']}")


def flat(tensor: Mapping[str, Any]) -> list[Any]:
    """The elements of an output in JSON. Raises Deviation where they are not as many, or of another type."""
    data = tensor.get("data")
    wanted(isinstance(data, list), f"{tensor['name']} without data: {shown(data)}")
    assert isinstance(data, list), "it was looked at"
    data = list(data)
    while data and isinstance(data[0], list):
        data = [element for row in data for element in (row if isinstance(row, list) else [row])]
    count = math.prod(tensor["shape"])
    wanted(len(data) == count, f"{tensor['name']} of the shape {tensor['shape']} with {len(data)} elements")
    kinds = IN_JSON.get(tensor["datatype"], (int, float))
    strange = [
        element for element in data if not isinstance(element, kinds) or (kinds == (int, float) and element is True)
    ]
    # A number that is no number has no JSON: null stands for it in most servers.
    strange = [element for element in strange if element is not None]
    wanted(not strange, f"{tensor['name']} of {tensor['datatype']} with the element {shown(strange[:1])}")
    return list(data)


def read_bytes(tensor: Mapping[str, Any], data: bytes) -> list[Any]:
    """The elements of an output in bytes. Raises Deviation where there are not as many."""
    count, name = math.prod(tensor["shape"]), tensor["name"]
    if tensor["datatype"] == "BYTES":
        return _texts(name, data, count)
    size = SIZES[tensor["datatype"]]
    wanted(len(data) == count * size, f"{name} of the shape {tensor['shape']} with {len(data)} bytes")
    if tensor["datatype"] == "BF16":
        return list(np.frombuffer(data, "<u2").tolist())
    found: list[Any] = np.frombuffer(data, np.dtype(DTYPES[tensor["datatype"]]).newbyteorder("<")).tolist()
    return found


def _texts(name: str, data: bytes, count: int) -> list[Any]:
    found, at = [], 0
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + size].decode("utf-8", "replace"))
        at += 4 + size
    wanted(at == len(data) and len(found) == count, f"{name} with {len(data)} bytes that are not {count} texts")
    return found


def same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether two answers hold the same, up to rounding; null and NaN are the same."""
    if len(first) != len(second):
        return False
    for one, other in zip(first, second, strict=True):
        if isinstance(one, str) or isinstance(other, str):
            if one != other:
                return False
        elif not np.isclose(_number(one), _number(other), rtol=1e-3, atol=1e-4, equal_nan=True):
            return False
    return True


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def outputs_of(document: Mapping[str, Any], tail: bytes = b"") -> dict[str, list[Any]]:
    """The elements of every output by name, in JSON or in the bytes after it. Raises Deviation."""
    found: dict[str, list[Any]] = {}
    at = 0
    for tensor in document["outputs"]:
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            found[tensor["name"]] = flat(tensor)
        elif type(size) is not int or at + size > len(tail):
            raise Deviation(f"{tensor['name']} with binary_data_size {shown(size)}, and {len(tail) - at} bytes left")
        else:
            found[tensor["name"]] = read_bytes(tensor, tail[at : at + size])
            at += size
    wanted(at == len(tail), f"{len(tail) - at} bytes after the last tensor")
    return found
