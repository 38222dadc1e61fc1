"""Tensors that any model of given inputs should take, and the reading of those that come back."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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

HALVES = ("FP16", "BF16")
"""Floats that JSON has no form for: they go and come as bytes."""

Filling = Literal["varied", "floats", "zeros"]
"""What stands in a request: elements that all differ, such elements where floats stand, or zeros."""

GOLDEN, GRAIN = 0.6180339887498949, 4096
"""Multiples of it lie far from one another after the point; floats are multiples of 1/4096, which FP32 holds."""

MOST_INTEGER = 30_000


def sizes(tensor: Mapping[str, Any], rows: int) -> list[int]:
    """A shape that fits a tensor's metadata: `rows` where its first size is any, 1 where another is.

    >>> sizes({"shape": [-1, 3, -1]}, 2)
    [2, 3, 1]
    """
    return [(rows if place == 0 else 1) if size < 0 else size for place, size in enumerate(tensor["shape"])]


@dataclass(frozen=True)
class Rows:
    """Rows by their numbers, and what stands in them: a row is the same wherever it is asked for."""

    numbers: tuple[int, ...] = (0,)
    filling: Filling = "zeros"

    def values(self, tensor: Mapping[str, Any], place: int = 0) -> list[Any]:
        """The elements of an input, the one at `place` among all inputs, flat.

        >>> Rows((0, 1), "varied").values({"datatype": "INT64", "shape": [-1, 2]})
        [1, 2, 3, 4]
        >>> Rows((1,), "varied").values({"datatype": "BYTES", "shape": [-1, 2]})
        ['3', '4']
        >>> Rows((0, 1)).values({"datatype": "BYTES", "shape": [-1]})
        ['a', 'a']
        """
        datatype, count = tensor["datatype"], math.prod(sizes(tensor, 1))
        if self.filling == "zeros" or (self.filling == "floats" and not is_float(datatype)):
            zero: Any = {"BYTES": "a", "BOOL": False}.get(datatype, 0)
            return [zero] * (count * len(self.numbers))
        return [element for row in self.numbers for element in _varied(datatype, row * count + 7 * place, count)]

    def shape(self, tensor: Mapping[str, Any]) -> list[int]:
        """The shape of an input."""
        return sizes(tensor, len(self.numbers))


def is_float(datatype: str) -> bool:
    """Whether elements may have a fraction."""
    return datatype in ("FP16", "BF16", "FP32", "FP64")


def _varied(datatype: str, first: int, count: int) -> list[Any]:
    """Elements by their numbers, none of them 0: texts of whole numbers, which models of texts and of numbers take."""
    places = np.arange(first, first + count)
    found: Array = places + 1
    if datatype == "BYTES":
        return list(map(str, found.tolist()))
    if datatype == "BOOL":
        found = places % 3 != 1
    elif is_float(datatype):
        found = np.round((0.25 + 5.75 * ((places + 1) * GOLDEN % 1)) * GRAIN) / GRAIN
    else:
        found = 1 + places % min(np.iinfo(DTYPES[datatype]).max, MOST_INTEGER)
    return list(found.tolist())


def as_input(tensor: Mapping[str, Any], rows: Rows, place: int = 0, nested: bool = False) -> Document:
    """An input as it stands in a request: its data in JSON, or bytes where JSON has no form for them."""
    shape = rows.shape(tensor)
    known = {"name": tensor["name"], "shape": shape, "datatype": tensor["datatype"]}
    if tensor["datatype"] in HALVES:
        return {**known, "data": in_bytes(tensor, rows, place)}
    data = rows.values(tensor, place)
    if nested:
        for size in shape[:0:-1]:
            data = [data[start : start + size] for start in range(0, len(data), size)] if size else []
    return {**known, "data": data}


def in_bytes(tensor: Mapping[str, Any], rows: Rows, place: int = 0) -> bytes:
    """An input as bytes: little-endian, a text after its length."""
    data = rows.values(tensor, place)
    if tensor["datatype"] == "BYTES":
        return b"".join(struct.pack("<I", len(text)) + text.encode() for text in data)
    if tensor["datatype"] == "BF16":
        return (np.array(data, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return np.array(data, np.dtype(DTYPES[tensor["datatype"]]).newbyteorder("<")).tobytes()


def alone(tensor: Mapping[str, Any], rows: Rows) -> bytes:
    """An input as the whole body of a raw request, where the one text that there may be has no length before it.

    >>> alone({"datatype": "BYTES", "shape": [-1, 1]}, Rows())
    b'a'
    """
    if tensor["datatype"] == "BYTES":
        return "".join(rows.values(tensor)).encode()
    return in_bytes(tensor, rows)


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
    data = _unnested(tensor, data) if data and isinstance(data[0], list) else list(data)
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


def _unnested(tensor: Mapping[str, Any], data: list[Any]) -> list[Any]:
    """Nested data, flat. Raises Deviation where the lists are not as the shape says."""
    for size in tensor["shape"][1:]:
        sound = all(isinstance(row, list) and len(row) == size for row in data)
        wanted(sound, f"{tensor['name']} of the shape {tensor['shape']} in the lists {shown(data)}")
        data = [element for row in data for element in row]
    return data


def read_bytes(tensor: Mapping[str, Any], data: bytes) -> list[Any]:
    """The elements of an output in bytes. Raises Deviation where there are not as many."""
    count, name = math.prod(tensor["shape"]), tensor["name"]
    if tensor["datatype"] == "BYTES":
        return _texts(name, data, count)
    size = SIZES[tensor["datatype"]]
    wanted(len(data) == count * size, f"{name} of the shape {tensor['shape']} with {len(data)} bytes")
    if tensor["datatype"] == "BF16":
        return list((np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").tolist())
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
    """Whether two answers hold the same, up to rounding; null stands for what JSON has no number for.

    >>> same([1, None, "a"], [1.00001, float("inf"), "a"])
    True
    """
    if len(first) != len(second):
        return False
    pairs = [(one, other) for one, other in zip(first, second, strict=True) if one is not other]
    texts = [(one, other) for one, other in pairs if isinstance(one, str) or isinstance(other, str)]
    if any(one != other for one, other in texts):
        return False
    numbers = np.array([tuple(map(_number, pair)) for pair in pairs if not isinstance(pair[0], str)]).reshape(-1, 2)
    for pair in (numbers, numbers[:, ::-1]):
        unsaid = np.isnan(pair[:, 0]) & ~np.isfinite(pair[:, 1])
        numbers = np.where(unsaid[:, None], np.nan, numbers)
    return bool(np.isclose(numbers[:, 0], numbers[:, 1], rtol=1e-3, atol=1e-4, equal_nan=True).all())


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def check_parameters(document: Mapping[str, Any]) -> None:
    """Raise Deviation where the parameters of an answer, or of its outputs, are not what parameters are."""
    for at, holder in (("", document), *((f" of {tensor['name']}", tensor) for tensor in document["outputs"])):
        parameters = holder.get("parameters", {})
        wanted(isinstance(parameters, dict), f"parameters{at} are {shown(parameters)}")
        for name, value in parameters.items():
            sound = isinstance(value, str | int | float)
            wanted(sound, f"the parameter {name}{at} is {shown(value)}, no string, number or boolean")


def outputs_of(document: Mapping[str, Any], tail: bytes = b"") -> dict[str, list[Any]]:
    """The elements of every output by name, in JSON or in the bytes after it. Raises Deviation."""
    pairs = zip(document["outputs"], _pieces(document, tail), strict=True)
    return {tensor["name"]: flat(tensor) if data is None else read_bytes(tensor, data) for tensor, data in pairs}


def joined(document: Document, tail: bytes) -> Document:
    """An answer in which data that came as bytes stand where those in JSON do. Raises Deviation."""
    pairs = zip(document["outputs"], _pieces(document, tail), strict=True)
    return {**document, "outputs": [tensor if data is None else _filled(tensor, data) for tensor, data in pairs]}


def _filled(tensor: Document, data: bytes) -> Document:
    parameters = {key: value for key, value in tensor["parameters"].items() if key != "binary_data_size"}
    return {**tensor, "parameters": parameters, "data": read_bytes(tensor, data)}


def _pieces(document: Mapping[str, Any], tail: bytes) -> list[bytes | None]:
    """The bytes of every output, None for one in JSON. Raises Deviation where they are not those after the JSON."""
    found: list[bytes | None] = []
    at = 0
    for tensor in document["outputs"]:
        parameters = tensor.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            found.append(None)
        elif type(size) is not int or not 0 <= size <= len(tail) - at:
            raise Deviation(f"{tensor['name']} with binary_data_size {shown(size)}, and {len(tail) - at} bytes left")
        else:
            found.append(tail[at : at + size])
            at += size
    wanted(at == len(tail), f"{len(tail) - at} bytes after the last tensor")
    return found
