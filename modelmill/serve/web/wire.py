"""The Open Inference Protocol on the wire: bytes of a request to columns, outputs to bytes of an answer.

Tensors come as JSON, nested or flat, or as little-endian bytes after the JSON (the binary tensor data extension), mixed
at will. Binary numbers are views of the body, not copies.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from modelmill.errors import RequestError
from modelmill.serve.inputs import Input, as_text, from_base64, is_base64, kind
from modelmill.serve.request import (
    LONG_BYTES,
    LONG_ELEMENTS,
    NO_WISHES,
    Asked,
    Expected,
    Request,
    Wishes,
    classified,
    encode,
    named,
    supported,
    whole,
    wishes,
)
from modelmill.serve.web import lists
from modelmill.serve.web.values import from_json
from modelmill.signature import Field

Array = np.ndarray[Any, Any]

PIECE = 16_384
"""Numbers of an answer that are written to JSON at a time."""
FORGOTTEN = (
    "If there are tensors as bytes, send Inference-Header-Content-Length: how many bytes of JSON come before them, "
    "or 0 where the body is the one input itself."
)
"""What to try where bytes came that are no JSON, and nothing said how much of them would be."""
KEPT_BYTES = 4096
"""The JSON before tensors is remembered up to so many bytes."""
KEPT = 64
"""So many of them for a version: clients that number their requests never say the same again."""


def read(body: bytes, header: str | None, expected: Expected, is_binary: bool = False) -> Request:
    """The request in `body`; `header` is the value of Inference-Header-Content-Length.

    is_binary: whether the body is said to be bytes: then the header may have been forgotten. Raises RequestError saying
    which tensor, what came and what was wanted.
    """
    if header is None and len(body) <= lists.BYTES:
        plain = _read_plain(body, expected)
        if plain is not None:
            return plain
    view = memoryview(body)
    length = len(view) if header is None else _header_length(header, len(view))
    if length == 0 and header is not None:
        return _read_raw(view, expected)
    text = body[:length] if length <= KEPT_BYTES and header is not None else None
    known: Head | None = expected.heads.get(text) if text is not None else None
    if known is not None and known.size == len(view) - length:
        return known.request(view[length:], expected)
    short, parts = lists.lifted(body[:length]) if length > lists.BYTES else (view[:length], {})
    envelope = parse(short, FORGOTTEN if is_binary and header is None else "")
    if not isinstance(envelope, dict):
        raise RequestError("body", f"expected a JSON object, came {kind(envelope)}", 'Send {"inputs": [...]}.')
    request = _read_envelope(envelope, _Tail(view[length:], parts), expected)
    if text is not None:
        _keep(text, envelope, request, expected)
    return request


@dataclass(frozen=True, slots=True)
class Head:
    """What the JSON before tensors that are all bytes says, checked: it is alike from one request to the next."""

    plain: Request
    """The request without its tensors."""
    places: tuple[tuple[str, str, int, tuple[int, ...]], ...]
    """Of every input, in the order of the bytes: how errors call it, its name, how many bytes it has, and its shape."""
    size: int
    """The bytes of all."""

    def request(self, view: memoryview, expected: Expected) -> Request:
        """The request with these bytes. Raises RequestError."""
        plain, columns, at = self.plain, {}, 0
        for where, name, size, shape in self.places:
            columns[name] = expected.inputs[name].from_bytes(where, view[at : at + size], shape)
            at += size
        return Request(plain.id, columns, plain.rows, plain.outputs, plain.wishes)


def _keep(text: bytes, envelope: Mapping[str, Any], request: Request, expected: Expected) -> None:
    """Remember the JSON of a request whose tensors are all bytes after it."""
    inputs = envelope["inputs"]
    if any("data" in each or is_base64(expected.inputs[each["name"]].field, each["parameters"]) for each in inputs):
        return
    places = [
        (f"inputs[{at}] ({name})", name, size, request.columns[name].shape)
        for at, (name, size) in enumerate((each["name"], each["parameters"]["binary_data_size"]) for each in inputs)
    ]
    plain = Request(request.id, {}, request.rows, request.outputs, request.wishes)
    if len(expected.heads) >= KEPT:
        expected.heads.clear()
    expected.heads[text] = Head(plain, tuple(places), sum(size for *_, size, _ in places))


def is_long(body: bytes, header: str | None, expected: Expected) -> bool:
    """Whether so much of a body is read element by element that it is for a thread; `header` is as in `read`."""
    if len(body) <= LONG_BYTES:
        return False
    length = None if expected.texts else whole(header)
    return length is None or length > LONG_BYTES


def wishes_of(body: bytes, header: str | None) -> Wishes:
    """What a request wishes, as far as that can be told before its version is there; `header` is as in `read`.

    Nothing is said yet of what is wrong with it.
    """
    length = whole(header)
    text = body if length is None else body[:length]
    try:
        return wishes(parameters("parameters", orjson.loads(text)), False) if len(text) <= LONG_BYTES else NO_WISHES
    except (ValueError, AttributeError, RequestError):
        return NO_WISHES


def is_long_to_write(request: Request, elements: int) -> bool:
    """Whether an answer of so many elements has so many of them in JSON that it is for a thread."""
    return elements > LONG_ELEMENTS and not all(asked.binary for asked in request.outputs)


def parse(text: bytes | memoryview, otherwise: str = "") -> Any:
    """The JSON value in `text`; strict: NaN, deep nesting, broken UTF-8 and names that come twice are refused.

    otherwise: what to try where it is no JSON.
    """
    if not text:
        raise RequestError("body", "is empty", "Send a JSON document.")
    try:
        value = orjson.loads(text)
        check_names(bytes(text), value)
        return value
    except orjson.JSONDecodeError as error:
        has_nan = b"NaN" in bytes(text[:100_000])
        hint = otherwise or ("A missing value is null: NaN is not JSON." if has_nan else "")
        raise RequestError("body", f"is not JSON: {error}", hint) from None


def check_names(text: bytes, value: Any) -> None:
    """Refuse a name that comes twice in one object. Where there are as many colons as names, none does."""
    if text.count(b":") == _names(value):
        return
    try:
        json.loads(text, object_pairs_hook=_once, parse_int=float)
    except RecursionError:
        raise RequestError("body", "is nested too deeply", "Nest lists as shape says.") from None


def _names(value: Any) -> int:
    """How many names the objects in a value have. A list is looked through where its first item may hold one."""
    found = 0
    left = [value]
    while left:
        one = left.pop()
        if type(one) is dict:
            found += len(one)
            left += one.values()
        elif type(one) is list and one and type(one[0]) in (dict, list):
            left += one
    return found


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object in which a name comes twice: which one would be meant is anybody's guess."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise RequestError("body", f"the name {name[:80]!r} comes twice in one object", "Send it once.")
        seen.add(name)


def write(request: Request, outputs: Mapping[str, Array], expected: Expected, model: str, version: int) -> Answer:
    """The answer to `request`: JSON, and after it the tensors that are wanted as bytes."""
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for asked in request.outputs:
        array = outputs[asked.name]
        datatype: str = expected.outputs[asked.name].datatype
        if asked.classes:
            array, datatype = classified(array, asked.classes, expected.labels(asked.name)), "BYTES"
        tensor: dict[str, Any] = {"name": asked.name, "shape": array.shape, "datatype": datatype}
        if asked.binary:
            tail.append(encode(array))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            flat = np.ascontiguousarray(array).reshape(-1)
            tensor["data"] = flat.tolist() if flat.dtype == object else _numbers(flat)
        tensors.append(tensor)
    document = {"model_name": model, "model_version": str(version), "outputs": tensors}
    if request.id is not None:
        document["id"] = request.id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(head + b"".join(tail), len(head) if tail else None)


def _numbers(flat: Array) -> Any:
    """Numbers for orjson: many of them written in pieces, between which other threads have the interpreter."""
    if flat.size <= PIECE:
        return flat
    parts = (flat[start : start + PIECE] for start in range(0, flat.size, PIECE))
    written = [orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for part in parts]
    return orjson.Fragment(b"[%s]" % b",".join(written))


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and the length of its JSON part where tensors follow it."""

    body: bytes
    json_bytes: int | None


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
    """What a request has beside its envelope: the bytes after the JSON, handed out in order; it keeps its place.

    parts: lists that were taken out of the JSON, by what stands for them.
    """

    def __init__(self, view: memoryview, parts: Mapping[str, lists.Part]) -> None:
        self.view = view
        self.parts = parts
        self.used = 0

    def take(self, where: str, size: int) -> memoryview:
        left = len(self.view) - self.used
        if size > left:
            raise RequestError(where, f"binary_data_size says {size} bytes, {left} are left in the body", AFTER)
        self.used += size
        return self.view[self.used - size : self.used]


def _read_envelope(envelope: dict[str, Any], tail: _Tail, expected: Expected) -> Request:
    identity = envelope.get("id")
    if identity is not None and not isinstance(identity, str):
        raise RequestError("id", f"expected a string, came {kind(identity)}", "Quote it, or leave it out.")
    wanted = wishes(parameters("parameters", envelope), False)
    columns = _read_inputs(envelope.get("inputs"), tail, expected)
    if tail.used != len(tail.view):
        left = len(tail.view) - tail.used
        raise RequestError("body", f"{left} bytes after the last tensor belong to no input", "Set binary_data_size.")
    rows = expected.rows(columns)
    return Request(identity, columns, rows, _read_outputs(envelope.get("outputs"), wanted.binary, expected), wanted)


def _read_plain(body: bytes, expected: Expected) -> Request | None:
    """A request of tensors in JSON, in which all is as it should be; None, quickly, where it is not plainly so."""
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(envelope) is not dict or not PLAIN.issuperset(envelope) or body.count(b":") != _names(envelope):
        return None
    inputs, identity = envelope.get("inputs"), envelope.get("id")
    if type(inputs) is not list or len(inputs) != len(expected.inputs) or not isinstance(identity, str | None):
        return None
    columns: dict[str, Array] = {}
    for tensor in inputs:
        name = tensor.get("name") if type(tensor) is dict else None
        taken = expected.inputs.get(name) if type(name) is str and name not in columns else None
        column = taken.plain(tensor) if taken is not None else None
        if column is None:
            return None
        columns[str(name)] = column
    return Request(identity, columns, expected.rows(columns), expected.plain)


AFTER = "It is the length of this tensor's bytes, which come after the JSON in the order of the inputs."
TENSORS = 'Write [{"name": ..., "datatype": ..., "shape": [...], "data": [...]}].'
OUTPUTS = 'Write [{"name": ...}], or leave it out for all.'

PLAIN = frozenset({"id", "inputs"})
"""What the envelope of a request holds that asks for all outputs as JSON."""

NONE: dict[str, Any] = {}


def parameters(where: str, holder: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request, a tensor or an output; names that nobody knows are let through."""
    found = holder.get("parameters")
    if found is None:
        return NONE
    if not isinstance(found, dict):
        raise RequestError(where, f"expected an object, came {kind(found)}", 'Such as {"binary_data": true}.')
    for name, value in found.items():
        if not isinstance(value, str | int | float | bool):
            if name in IGNORED:
                continue
            said = f"expected a string, number or boolean, came {kind(value)}"
            raise RequestError(f"{where}.{name[:80]}", said, "Leave it out, or write it as a string.")
        supported(where, name, value)
    return found


IGNORED = frozenset({"content_type", "headers"})
"""What MLServer's clients send beside the data; it may be null or an object there, and only `base64` counts here."""


def _read_inputs(inputs: Any, tail: _Tail, expected: Expected) -> dict[str, Array]:
    if not isinstance(inputs, list):
        raise RequestError("inputs", f"expected a list of tensors, came {kind(inputs)}", TENSORS)
    columns: dict[str, Array] = {}
    for index, tensor in enumerate(inputs):
        where = f"inputs[{index}]"
        if not isinstance(tensor, dict):
            raise RequestError(where, f"expected an object, came {kind(tensor)}", TENSORS)
        name = named(where, tensor.get("name"), expected.inputs, "input")
        if name in columns:
            raise RequestError(where, f"input {name!r} comes twice", "Send each input once.")
        columns[name] = _read_tensor(where, tensor, expected.inputs[name], tail)
    expected.all_inputs(columns)
    return columns


def _read_tensor(where: str, tensor: dict[str, Any], taken: Input, tail: _Tail) -> Array:
    where = f"{where} ({taken.field.name})"
    taken.datatype(where, tensor.get("datatype"))
    shape = taken.shape(where, tensor.get("shape"))
    given = parameters(f"{where}.parameters", tensor)
    array = _read_data(where, tensor, given.get("binary_data_size"), shape, taken, tail)
    return from_base64(where, array) if is_base64(taken.field, given) else array


def _read_data(
    where: str, tensor: dict[str, Any], size: Any, shape: tuple[int, ...], taken: Input, tail: _Tail
) -> Array:
    if size is None:
        if "data" not in tensor:
            raise RequestError(where, "has neither data nor binary_data_size", "Send data as a list.")
        return from_json(where, tensor["data"], tensor["shape"], tail.parts, taken).reshape(shape)
    if "data" in tensor:
        raise RequestError(where, "has both data and binary_data_size", "Send one of them.")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        said = f"expected a number of bytes, came {kind(size)}{f' {size}' if type(size) is int else ''}"
        raise RequestError(f"{where}.parameters.binary_data_size", said, AFTER)
    return taken.from_bytes(where, tail.take(where, size), shape)


def _read_outputs(outputs: Any, binary: bool, expected: Expected) -> tuple[Asked, ...]:
    everything = expected.binary if binary else expected.plain
    if outputs is None:
        return everything
    if not isinstance(outputs, list):
        raise RequestError("outputs", f"expected a list, came {kind(outputs)}", OUTPUTS)
    asked: dict[str, Asked] = {}
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        if not isinstance(output, dict):
            raise RequestError(where, f"expected an object, came {kind(output)}", OUTPUTS)
        name = named(where, output.get("name"), expected.outputs, "output")
        if name in asked:
            raise RequestError(where, f"output {name!r} is asked for twice", "Ask for each output once.")
        asked[name] = expected.asked(where, name, parameters(f"{where}.parameters", output), binary)
    return tuple(asked.values()) or everything


def _read_raw(view: memoryview, expected: Expected) -> Request:
    """A body that is nothing but the one input of the model, of at most one variable size."""
    if len(expected.inputs) != 1:
        said = f"a raw request is for models of one input, this has {len(expected.inputs)}"
        raise RequestError("body", said, "Send it with JSON.")
    ((name, taken),) = expected.inputs.items()
    field = taken.field
    if not view:
        raise RequestError("body", "is empty", "Send the bytes of the input.")
    if field.datatype == "BYTES":
        if any(size != 1 for axis, size in enumerate(field.shape) if axis != field.axis):
            hint = "Send it with JSON."
            raise RequestError("body", f"a raw request is one string, the input is {list(field.shape)}", hint)
        array = np.array([as_text("body", view)], object).reshape((1,) * len(field.shape))
        return Request(None, {name: taken.checked("body", array)}, 1, expected.binary)
    columns = {name: taken.from_bytes("body", view, _raw_shape(view, field))}
    return Request(None, columns, expected.rows(columns), expected.binary)


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
        raise RequestError("body", f"expected a multiple of {rest} bytes, came {len(view)}", "Send whole rows.")
    sizes[axis] = len(view) // rest
    return tuple(sizes)
