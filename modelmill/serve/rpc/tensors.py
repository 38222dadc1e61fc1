"""Inference over gRPC: the bytes of a ModelInferRequest to columns, outputs to the bytes of a ModelInferResponse.

Everything in a request but its id and its raw tensors is alike from one request to the next. That part, the head, is
read and checked once, and found again by its bytes; raw tensors are views of the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelmill.errors import RequestError
from modelmill.protocol.contents import CONTENTS
from modelmill.protocol.schema import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    pieces,
    read_varint,
    schema,
    tagged,
    text,
    varint,
)
from modelmill.serve.request import (
    Asked,
    Expected,
    Input,
    Request,
    Wishes,
    classified,
    encode,
    named,
    supported,
    wishes,
)

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]

MESSAGE = "inference.ModelInferRequest"
ANSWER = "inference.ModelInferResponse"
NAME, VERSION, ID, RAW = 1, 2, 3, 7
"""Numbers of the fields that differ from request to request, or say whose it is."""

KEPT_BYTES = 8192
"""Heads up to so many bytes are kept."""
KEPT = 256
"""Heads kept for a version, and shapes of answers kept for a head."""


@dataclass(slots=True)
class Envelope:
    """A request, taken apart as far as is needed to know whose it is."""

    name: str
    version: str
    id: bytes
    head: bytes
    """The message without its id and its raw tensors, which is a message too."""
    raw: list[memoryview]


@dataclass(slots=True)
class Plan:
    """What a head says, checked; `columns` are the tensors where the head holds them itself."""

    inputs: list[tuple[str, str, Input, tuple[int, ...]]]
    """Where it stands, its name, the input, and its shape."""
    outputs: tuple[Asked, ...]
    wishes: Wishes
    raw: bool
    """Whether the answer's tensors go as bytes."""
    columns: Columns | None = None
    names: tuple[str, ...] = ()
    """Of the outputs."""
    answers: dict[Any, bytes] = field(default_factory=dict)
    """The heads of answers, by the shapes of their tensors."""


def opened(message: bytes) -> Envelope:
    """A request, taken apart. Raises RequestError for bytes that are no message."""
    view = memoryview(message)
    envelope = Envelope("", "", b"", message, [])
    kept: list[memoryview] = []
    start = at = 0
    end = len(view)
    while at < end:
        begin = at
        tag = view[at]
        size = view[at + 1] if at + 1 < end else 0x80
        if tag & 0x87 == LENGTH and size < 0x80:
            at += 2
        else:
            tag, at = read_varint(view, at)
            if tag & 7 != LENGTH:
                at = begin + _skip(view[begin:])
                continue
            size, at = read_varint(view, at)
        stop = at + size
        if stop > end:
            raise RequestError("message", f"cannot be read: a field says {size} bytes, {end - at} are left", "")
        number = tag >> 3
        if number in (RAW, ID):
            if begin > start:
                kept.append(view[start:begin])
            start = stop
            if number == RAW:
                envelope.raw.append(view[at:stop])
            else:
                envelope.id = text("id", view[at:stop]).encode()
        elif number == NAME:
            envelope.name = text("model_name", view[at:stop])
        elif number == VERSION:
            envelope.version = text("model_version", view[at:stop])
        at = stop
    if start:
        if end > start:
            kept.append(view[start:end])
        envelope.head = bytes(kept[0]) if len(kept) == 1 else b"".join(kept)
    return envelope


def _skip(rest: memoryview) -> int:
    """The length of the first field of `rest`, which is none that a request has."""
    tag, at = read_varint(rest, 0)
    end = read_varint(rest, at)[1] if tag & 7 == VARINT else at + {FIXED64: 8, FIXED32: 4}.get(tag & 7, 0)
    list(pieces(rest[:end]))  # raises where the field is broken
    return end


def plan(envelope: Envelope, expected: Expected) -> Plan:
    """What the head of a request says, checked against what the version takes. Raises RequestError."""
    message = schema().decode(MESSAGE, envelope.head)
    wanted = wishes(_parameters("parameters", message), True)
    inputs: list[tuple[str, str, Input, tuple[int, ...]]] = []
    columns: Columns = {}
    contents = False
    for index, tensor in enumerate(message.get("inputs", ())):
        where = f"inputs[{index}]"
        name = named(where, tensor.get("name", ""), expected.inputs, "input")
        if name in columns:
            raise RequestError(where, f"input {name!r} comes twice", "Send each input once.")
        taken = expected.inputs[name]
        where = f"{where} ({name})"
        taken.datatype(where, tensor.get("datatype", ""))
        shape = taken.shape(where, _sizes(tensor))
        _parameters(f"{where}.parameters", tensor)
        inputs.append((where, name, taken, shape))
        columns[name] = np.empty(0)
        given = {key: values for key, values in tensor.get("contents", {}).items() if len(values)}
        if given and envelope.raw:
            hint = "Send all tensors in raw_input_contents, or none."
            raise RequestError(where, "has contents beside raw_input_contents", hint)
        if not envelope.raw:
            columns[name] = _from_contents(where, given, shape, taken)
            contents = True
    expected.all_inputs(columns)
    outputs = _outputs(message.get("outputs", ()), wanted.binary, expected)
    raw = any(asked.binary or expected.outputs[asked.name].datatype not in CONTENTS for asked in outputs)
    names = tuple(asked.name for asked in outputs)
    return Plan(inputs, outputs, wanted, raw, columns if contents else None, names)


def request(envelope: Envelope, found: Plan, expected: Expected) -> Request:
    """The request of an envelope, whose head was checked. Raises RequestError."""
    columns = found.columns
    if columns is None:
        if len(envelope.raw) != len(found.inputs):
            message = f"has {len(envelope.raw)} tensors for {len(found.inputs)} inputs"
            raise RequestError("raw_input_contents", message, "Send one for each input, in their order.")
        columns = {
            name: taken.from_bytes(where, data, shape)
            for (where, name, taken, shape), data in zip(found.inputs, envelope.raw, strict=True)
        }
    return Request(None, columns, expected.rows(columns), found.outputs, found.wishes)


def answer(
    envelope: Envelope, found: Plan, outputs: Mapping[str, Array], expected: Expected, name: str, version: int
) -> bytes:
    """The bytes of a ModelInferResponse."""
    arrays = [outputs[asked.name] for asked in found.outputs]
    for place, asked in enumerate(found.outputs):
        if asked.classes:
            arrays[place] = classified(arrays[place], asked.classes, expected.labels(asked.name))
    identity = tagged(ID, envelope.id) if envelope.id else b""
    if not found.raw:
        return _head(found, arrays, expected, name, version, contents=True) + identity
    shapes = tuple([array.shape for array in arrays])
    head = found.answers.get(shapes)
    if head is None:
        head = _head(found, arrays, expected, name, version, contents=False)
        if len(found.answers) < KEPT:
            found.answers[shapes] = head
    parts = [head, identity]
    for array in arrays:
        data = encode(array)
        parts += (b"\x32", varint(len(data)), data)  # field 6, raw_output_contents
    return b"".join(parts)


def _head(found: Plan, arrays: Sequence[Array], expected: Expected, name: str, version: int, contents: bool) -> bytes:
    tensors: list[dict[str, Any]] = []
    for asked, array in zip(found.outputs, arrays, strict=True):
        datatype = "BYTES" if asked.classes else expected.outputs[asked.name].datatype
        tensor: dict[str, Any] = {"name": asked.name, "datatype": datatype, "shape": array.shape}
        if contents:
            flat = array.reshape(-1)
            values: Any = [str(value).encode() for value in flat.tolist()] if array.dtype == object else flat
            tensor["contents"] = {CONTENTS[datatype]: values}
        tensors.append(tensor)
    return schema().encode(ANSWER, {"model_name": name, "model_version": str(version), "outputs": tensors})


def _sizes(tensor: Mapping[str, Any]) -> list[int]:
    shape = tensor.get("shape")
    sizes: list[int] = [] if shape is None else shape.tolist()
    return sizes


def _parameters(where: str, holder: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain values."""
    found: dict[str, Any] = {}
    for name, choice in holder.get("parameters", {}).items():
        if not choice:
            raise RequestError(f"{where}.{name[:80]}", "has no value", "Set one of the fields of InferParameter.")
        value = next(reversed(choice.values()))
        supported(where, name, value)
        found[name] = value
    return found


def _outputs(outputs: Sequence[Mapping[str, Any]], binary: bool, expected: Expected) -> tuple[Asked, ...]:
    asked: dict[str, Asked] = {}
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        name = named(where, output.get("name", ""), expected.outputs, "output")
        if name in asked:
            raise RequestError(where, f"output {name!r} is asked for twice", "Ask for each output once.")
        asked[name] = expected.asked(where, name, _parameters(f"{where}.parameters", output), binary)
    return tuple(asked.values()) or (expected.binary if binary else expected.plain)


def _from_contents(where: str, given: Mapping[str, Any], shape: tuple[int, ...], taken: Input) -> Array:
    """The tensor in InferTensorContents: the elements in the one place that is for their datatype."""
    datatype = taken.field.datatype
    if datatype not in CONTENTS:
        raise RequestError(where, f"{datatype} has no typed contents", "Send it in raw_input_contents.")
    place = CONTENTS[datatype]
    others = [name for name in given if name != place]
    if others:
        raise RequestError(f"{where}.contents", f"expected {place} for {datatype}, came {others[0]}", "")
    values = given.get(place, ())
    wanted = 1
    for size in shape:
        wanted *= size
    if len(values) != wanted:
        hint = "" if given else f"Send {place}, or raw_input_contents."
        raise RequestError(where, f"shape {list(shape)} wants {wanted} elements, came {len(values)}", hint)
    if datatype == "BYTES":
        array: Array = taken.from_values(where, [text(where, memoryview(value)) for value in values])
    elif wanted == 0:
        array = np.empty(0, taken.dtype)
    else:
        array = values.astype(taken.dtype)
        if array.dtype.kind in "iu" and (array != values).any():
            raise RequestError(where, f"a number does not fit into {datatype}", "")
    return taken.checked(where, array.reshape(shape))
