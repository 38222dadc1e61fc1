"""The Open Inference Protocol on the wire: bytes of a request to columns, outputs to bytes of an answer.

Tensors come as JSON, nested or flat, or as little-endian bytes after the JSON (the binary tensor data extension), mixed
at will. Binary numbers are views of the body, not copies.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any

import numpy as np
import orjson

from modelmill.errors import RequestError
from modelmill.runtime.axes import fits
from modelmill.runtime.rows import count
from modelmill.signature import NO_DATE, Field, Signature

Array = np.ndarray[Any, Any]

UNSUPPORTED = {
    "shared_memory_region": "Send the data in the request.",
    "sequence_id": "Models here keep no state between requests.",
    "sequence_start": "Models here keep no state between requests.",
    "sequence_end": "Models here keep no state between requests.",
    "classification": "The outputs of a classifier are label and probabilities.",
}
"""Parameters of extensions that are not offered: ignoring them would give a wrong answer."""

NUMBERS = frozenset({int, float})
ELEMENTS: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": NUMBERS,
}
"""Kind of numpy dtype: the JSON types that may stand for it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One output that a client wants, and whether as bytes."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class Request:
    """An inference request, decoded and checked against the signature."""

    id: str | None
    columns: dict[str, Array]
    rows: int
    outputs: tuple[Asked, ...]


def read(body: bytes, header: str | None, signature: Signature) -> Request:
    """The request in `body`; `header` is the value of Inference-Header-Content-Length.

    Raises RequestError saying which tensor, what came and what was wanted.
    """
    view = memoryview(body)
    length = len(view) if header is None else _header_length(header, len(view))
    if length == 0 and header is not None:
        return _read_raw(view, signature)
    envelope = parse(view[:length])
    if not isinstance(envelope, dict):
        raise RequestError("body", f"expected a JSON object, came {_kind(envelope)}", 'Send {"inputs": [...]}.')
    return _read_envelope(envelope, _Tail(view[length:]), signature)


def parse(text: bytes | memoryview) -> Any:
    """The JSON value in `text`; strict, so that NaN, deep nesting and broken UTF-8 are refused."""
    if not text:
        raise RequestError("body", "is empty", "Send a JSON document.")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        hint = "A missing value is null: NaN is not JSON." if b"NaN" in bytes(text[:100_000]) else ""
        raise RequestError("body", f"is not JSON: {error}", hint) from None


def write(request: Request, outputs: Mapping[str, Array], fields: Sequence[Field], model: str, version: int) -> Answer:
    """The answer to `request`: JSON, and after it the tensors that are wanted as bytes."""
    datatypes = {field.name: field.datatype for field in fields}
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for asked in request.outputs:
        array = outputs[asked.name]
        tensor: dict[str, Any] = {"name": asked.name, "shape": list(array.shape), "datatype": datatypes[asked.name]}
        if asked.binary:
            tail.append(encode(array))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            flat = np.ascontiguousarray(array).reshape(-1)
            tensor["data"] = flat.tolist() if flat.dtype == object else flat
        tensors.append(tensor)
    document = {"model_name": model, "model_version": str(version), "outputs": tensors}
    if request.id is not None:
        document["id"] = request.id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(head + b"".join(tail), len(head) if tail else None)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and the length of its JSON part where tensors follow it."""

    body: bytes
    json_bytes: int | None


def encode(array: Array) -> bytes:
    """A tensor as the bytes of the binary extension.

    >>> encode(np.array(["ab", ""], object))
    b'\\x02\\x00\\x00\\x00ab\\x00\\x00\\x00\\x00'
    """
    if array.dtype != object:
        return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    texts = [str(value).encode() for value in array.reshape(-1).tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _header_length(header: str, size: int) -> int:
    where = "Inference-Header-Content-Length"
    if not (header.isascii() and header.isdigit()) or len(header) > 18:
        raise RequestError(where, f"{header[:40]!r} is not a number of bytes", "Give the length of the JSON part.")
    if int(header) > size:
        raise RequestError(
            where, f"says {header} bytes of JSON, the body has {size}", "Give the length of the JSON part."
        )
    return int(header)


class _Tail:
    """The bytes after the JSON, handed out in order; it keeps its place."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.used = 0

    def take(self, where: str, size: int) -> memoryview:
        left = len(self.view) - self.used
        if size > left:
            raise RequestError(where, f"binary_data_size says {size} bytes, {left} are left in the body", "")
        self.used += size
        return self.view[self.used - size : self.used]


def _read_envelope(envelope: dict[str, Any], tail: _Tail, signature: Signature) -> Request:
    identity = envelope.get("id")
    if identity is not None and not isinstance(identity, str):
        raise RequestError("id", f"expected a string, came {_kind(identity)}", "")
    parameters = _parameters("parameters", envelope)
    columns = _read_inputs(envelope.get("inputs"), tail, signature)
    if tail.used != len(tail.view):
        left = len(tail.view) - tail.used
        raise RequestError("body", f"{left} bytes after the last tensor belong to no input", "Set binary_data_size.")
    binary = _flag("parameters.binary_data_output", parameters.get("binary_data_output", False))
    rows = count(columns, signature.inputs)
    return Request(identity, columns, rows, _read_outputs(envelope.get("outputs"), binary, signature))


def _parameters(where: str, holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(where, f"expected an object, came {_kind(parameters)}", "")
    for name, value in parameters.items():
        if not isinstance(value, str | int | float | bool):
            raise RequestError(f"{where}.{name[:80]}", f"expected a string, number or boolean, came {_kind(value)}", "")
        if name in UNSUPPORTED and value not in (0, False, ""):
            raise RequestError(f"{where}.{name}", "is not supported", UNSUPPORTED[name])
    return parameters


def _flag(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RequestError(where, f"expected true or false, came {_kind(value)}", "")
    return value


def _read_inputs(inputs: Any, tail: _Tail, signature: Signature) -> dict[str, Array]:
    fields = {field.name: field for field in signature.inputs}
    if not isinstance(inputs, list):
        raise RequestError("inputs", f"expected a list of tensors, came {_kind(inputs)}", "")
    columns: dict[str, Array] = {}
    for index, tensor in enumerate(inputs):
        where = f"inputs[{index}]"
        if not isinstance(tensor, dict):
            raise RequestError(where, f"expected an object, came {_kind(tensor)}", "")
        name = _name(where, tensor, fields, "input")
        if name in columns:
            raise RequestError(where, f"input {name!r} comes twice", "Send each input once.")
        columns[name] = _read_tensor(where, tensor, fields[name], tail)
    missing = [name for name in fields if name not in columns]
    if missing:
        raise RequestError("inputs", f"missing: {', '.join(missing[:12])}", f"The model takes {_listed(fields)}.")
    return columns


def _name(where: str, holder: dict[str, Any], known: Mapping[str, Any], what: str) -> str:
    name = holder.get("name")
    if not isinstance(name, str):
        raise RequestError(f"{where}.name", f"expected a string, came {_kind(name)}", f"Known: {_listed(known)}.")
    if name not in known:
        close = get_close_matches(name[:200], list(known), n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Known: {_listed(known)}."
        raise RequestError(f"{where}.name", f"the model has no {what} {name[:80]!r}", hint)
    return name


def _read_tensor(where: str, tensor: dict[str, Any], field: Field, tail: _Tail) -> Array:
    where = f"{where} ({field.name})"
    if tensor.get("datatype") != field.datatype:
        came = tensor.get("datatype")
        came = repr(came[:20]) if isinstance(came, str) else _kind(came)
        raise RequestError(f"{where}.datatype", f"expected {field.datatype}, came {came}", "")
    shape = _shape(where, tensor.get("shape"), field)
    parameters = _parameters(f"{where}.parameters", tensor)
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise RequestError(where, "has neither data nor binary_data_size", "Send data as a list.")
        return _from_json(where, tensor["data"], shape, field)
    if "data" in tensor:
        raise RequestError(where, "has both data and binary_data_size", "Send one of them.")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise RequestError(f"{where}.parameters.binary_data_size", "expected a number of bytes", "")
    return _from_bytes(where, tail.take(where, size), shape, field)


def _shape(where: str, shape: Any, field: Field) -> tuple[int, ...]:
    where = f"{where}.shape"
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise RequestError(where, f"expected a list of sizes such as {_example_shape(field)}", "")
    if not field.shape and shape == [1]:
        shape = []  # there are clients that cannot send a scalar
    if not fits(shape, field.shape):
        raise RequestError(where, f"expected {list(field.shape)}, came {str(shape)[:80]}", "-1 is any size.")
    if field.axis is not None and shape[field.axis] == 0:
        raise RequestError(where, "has no rows", "Send at least one row.")
    return tuple(shape)


def _example_shape(field: Field) -> list[int]:
    return [1 if size < 0 else size for size in field.shape]


def _from_json(where: str, data: Any, shape: tuple[int, ...], field: Field) -> Array:
    where = f"{where}.data"
    if not isinstance(data, list):
        raise RequestError(where, f"expected a list, came {_kind(data)}", "")
    flat = _flatten(where, data, shape) if data and isinstance(data[0], list) else data
    if len(flat) != math.prod(shape):
        raise RequestError(where, f"shape {list(shape)} wants {math.prod(shape)} elements, came {len(flat)}", "")
    if field.datatype == "FP16":
        raise RequestError(where, "FP16 cannot be sent as JSON", "Send it as binary data.")
    types = set(map(type, flat))
    if type(None) in types:
        flat = _without_null(where, flat, field)
        types.discard(type(None))
    allowed = frozenset({str}) if field.datatype == "BYTES" else ELEMENTS[np.dtype(field.dtype).kind]
    if not types <= allowed:
        wrong = next(value for value in flat if type(value) not in allowed)
        raise RequestError(where, f"expected {field.datatype}, came {_kind(wrong)}", "")
    return _checked(where, _to_array(where, flat, field).reshape(shape), field)


def _flatten(where: str, data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Row-major elements of nested lists that have exactly `shape`."""
    level: list[Any] = [data]
    for axis, size in enumerate(shape):
        if set(map(type, level)) != {list}:
            raise RequestError(where, f"lists are nested unevenly at axis {axis}", f"Nest them as {list(shape)}.")
        if set(map(len, level)) - {size}:
            raise RequestError(where, f"a list at axis {axis} has not the {size} items that shape says", "")
        level = list(chain.from_iterable(level))
    return level


def _without_null(where: str, flat: list[Any], field: Field) -> list[Any]:
    if not field.nullable:
        raise RequestError(where, "null is not allowed: the column has no missing values", "")
    if field.datatype == "BYTES":
        missing: Any = ""
    elif field.kind == "date":
        missing = NO_DATE
    elif np.dtype(field.dtype).kind == "f":
        missing = math.nan
    else:
        raise RequestError(where, f"null cannot be stored as {field.datatype}", "")
    return [missing if value is None else value for value in flat]


def _to_array(where: str, flat: list[Any], field: Field) -> Array:
    if field.datatype == "BYTES":
        array = np.empty(len(flat), object)
        array[:] = flat
        return array
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, field.dtype)
    except OverflowError:
        raise RequestError(where, f"a number does not fit into {field.datatype}", "") from None
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise RequestError(where, f"a number does not fit into {field.datatype}", "")
    return array


def _from_bytes(where: str, data: memoryview, shape: tuple[int, ...], field: Field) -> Array:
    if field.datatype == "BYTES":
        return _checked(where, _strings(where, data, math.prod(shape)).reshape(shape), field)
    dtype = np.dtype(field.dtype).newbyteorder("<")
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise RequestError(where, f"shape {list(shape)} of {field.datatype} wants {wanted} bytes, came {len(data)}", "")
    if dtype.kind == "b" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        raise RequestError(where, "a BOOL is a byte 0 or 1", "")
    array = np.frombuffer(data, dtype).reshape(shape)
    if not (array.flags.aligned and array.dtype.isnative):
        array = array.astype(field.dtype)
    return _checked(where, array, field)


def _strings(where: str, data: memoryview, count: int) -> Array:
    """Elements of four bytes of length, then as many bytes of UTF-8."""
    if count > len(data) // 4:
        raise RequestError(where, f"expected {count} strings, the bytes hold at most {len(data) // 4}", "")
    array = np.empty(count, object)
    at = 0
    for index in range(count):
        if at + 4 > len(data):
            raise RequestError(where, f"the bytes end before string {index}", "")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise RequestError(where, f"string {index} says {length} bytes, {len(data) - at} are left", "")
        array[index] = _text(where, data[at : at + length])
        at += length
    if at != len(data):
        raise RequestError(where, f"{len(data) - at} bytes follow the last string", "")
    return array


def _text(where: str, data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise RequestError(where, "a string is not UTF-8", "") from None


def _checked(where: str, array: Array, field: Field) -> Array:
    """The array, if what it misses may be missing."""
    if field.nullable:
        return array
    if array.dtype == object:
        missing = "" in array.reshape(-1).tolist()
    elif array.dtype.kind == "f":
        missing = bool(np.isnan(array).any())
    else:
        missing = field.kind == "date" and bool((array == NO_DATE).any())
    if missing:
        raise RequestError(where, "a value is missing, which this input does not allow", "")
    return array


def _read_outputs(outputs: Any, binary: bool, signature: Signature) -> tuple[Asked, ...]:
    if outputs is None:
        return tuple(Asked(field.name, binary) for field in signature.outputs)
    if not isinstance(outputs, list):
        raise RequestError("outputs", f"expected a list, came {_kind(outputs)}", "")
    known = {field.name: field for field in signature.outputs}
    asked: dict[str, Asked] = {}
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        if not isinstance(output, dict):
            raise RequestError(where, f"expected an object, came {_kind(output)}", "")
        name = _name(where, output, known, "output")
        if name in asked:
            raise RequestError(where, f"output {name!r} is asked for twice", "Ask for each output once.")
        parameters = _parameters(f"{where}.parameters", output)
        asked[name] = Asked(name, _flag(f"{where}.parameters.binary_data", parameters.get("binary_data", binary)))
    return tuple(asked.values()) or tuple(Asked(field.name, binary) for field in signature.outputs)


def _read_raw(view: memoryview, signature: Signature) -> Request:
    """A body that is nothing but the one input of the model, of at most one variable size."""
    if len(signature.inputs) != 1:
        raise RequestError("body", f"a raw request is for models of one input, this has {len(signature.inputs)}", "")
    field = signature.inputs[0]
    outputs = tuple(Asked(output.name, True) for output in signature.outputs)
    if not view:
        raise RequestError("body", "is empty", "Send the bytes of the input.")
    if field.datatype == "BYTES":
        if any(size > 1 for size in field.shape):
            raise RequestError("body", f"a raw request is one string, the input is {list(field.shape)}", "")
        array = np.array([_text("body", view)], object).reshape((1,) * len(field.shape))
        return Request(None, {field.name: _checked("body", array, field)}, 1, outputs)
    shape = _raw_shape(view, field)
    columns = {field.name: _from_bytes("body", view, shape, field)}
    return Request(None, columns, count(columns, signature.inputs), outputs)


def _raw_shape(view: memoryview, field: Field) -> tuple[int, ...]:
    """One row, whose one variable size follows from the bytes; where only the rows vary, as many rows as fit."""
    if not field.shape:
        return ()
    variable = [axis for axis, size in enumerate(field.shape) if size < 0 and axis != field.axis]
    if len(variable) > 1:
        raise RequestError("body", f"a raw request leaves the shape open: {list(field.shape)}", "Send it with JSON.")
    axis = variable[0] if variable else field.axis or 0
    sizes = [abs(size) for size in field.shape]
    rest = math.prod(size for at, size in enumerate(sizes) if at != axis) * np.dtype(field.dtype).itemsize
    if rest == 0 or len(view) % rest:
        raise RequestError("body", f"expected a multiple of {rest} bytes, came {len(view)}", "")
    sizes[axis] = len(view) // rest
    return tuple(sizes)


def _kind(value: Any) -> str:
    """A JSON value in words."""
    names = {type(None): "nothing", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), f"the number {str(value)[:40]}")


def _listed(names: Mapping[str, Any]) -> str:
    shown = list(names)[:12]
    return ", ".join(shown) + (", ..." if len(names) > 12 else "")
