"""Inference over gRPC: what the head of a request says, its tensors, and outputs as the bytes of a ModelInferResponse.

Everything in a request but its id and its raw tensors is alike from one request to the next. That part, the head, is
read and checked once, and found again by its bytes; raw tensors are views of the message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from modelmill.errors import RequestError
from modelmill.protocol.contents import CONTENTS
from modelmill.protocol.schema import schema, tagged, varint
from modelmill.serve.inputs import Input, from_base64, is_base64
from modelmill.serve.request import (
    LONG_BYTES,
    NO_WISHES,
    Asked,
    Expected,
    Wishes,
    classified,
    encode,
    named,
    supported,
    wishes,
)
from modelmill.serve.rpc.envelope import ID, UNKNOWN_MOST, Envelope

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]

MESSAGE = "inference.ModelInferRequest"
ANSWER = "inference.ModelInferResponse"
PER_TENSOR = 32
"""Fields of an input or an output, at the most: its name, datatype and shape, and some parameters."""
SIZES_MOST = 100
"""Sizes of a shape that are looked at; numpy has none so long."""
KEPT_BYTES = 8192
"""Heads up to so many bytes are kept."""
KEPT = 256
"""Heads kept for a version, and shapes of answers kept for a head."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tensor of one input stands in a request, its shape, and whether its texts are base64."""

    where: str
    name: str
    taken: Input
    shape: tuple[int, ...]
    base64: bool = False


@dataclass(slots=True)
class Plan:
    """What a head says, checked; `columns` are the tensors where the head holds them itself."""

    inputs: list[Place]
    rows: int
    outputs: tuple[Asked, ...]
    wishes: Wishes
    raw: bool
    """Whether the answer's tensors go as bytes."""
    columns: Columns | None = None
    coded: tuple[Place, ...] = ()
    """Those of the inputs whose texts are base64."""
    names: tuple[str, ...] = ()
    """Of the outputs."""
    by_element: bool = False
    """Whether the answer is written element by element: texts, classes, and typed contents."""
    elements: float = 0
    """How many elements its outputs have at the most; infinite where that is open."""
    answers: dict[Any, bytes] = field(default_factory=dict)
    """The heads of answers, by the shapes of their tensors."""

    def is_long(self, envelope: Envelope) -> bool:
        """Whether the tensors of a message are so long that they are read on a thread."""
        return self.columns is None and sum(map(len, envelope.raw)) > LONG_BYTES


class Plans:
    """What was learned of the heads of requests; it lives as long as the version that they are for."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[object, dict[bytes, Plan]] = WeakKeyDictionary()

    def find(self, version: object, expected: Expected, envelope: Envelope) -> Plan:
        """What the head of a request says: found again, or read and kept. Raises RequestError."""
        plans = self._known.get(version)
        if plans is None:
            plans = self._known[version] = {}
        found = plans.get(envelope.head) if envelope.raw else None
        if found is not None:
            return found
        found = plan(envelope, expected)
        if envelope.raw and len(envelope.head) <= KEPT_BYTES:
            if len(plans) >= KEPT:
                plans.clear()
            plans[envelope.head] = found
        return found


def wishes_of(envelope: Envelope) -> Wishes:
    """What a request wishes, as far as that can be told before its version is there."""
    try:
        return wishes(_parameters("parameters", schema().decode(MESSAGE, envelope.head, UNKNOWN_MOST)), True)
    except RequestError:  # its version will find what is wrong
        return NO_WISHES


def plan(envelope: Envelope, expected: Expected) -> Plan:
    """What the head of a request says, checked against what the version takes. Raises RequestError."""
    most = UNKNOWN_MOST + PER_TENSOR * (len(expected.inputs) + len(expected.outputs))
    message = schema().decode(MESSAGE, envelope.head, most)
    wanted = wishes(_parameters("parameters", message), True)
    inputs: dict[str, Place] = {}
    given: Columns = {}
    for index, tensor in enumerate(message.get("inputs", ())):
        where = f"inputs[{index}]"
        name = named(where, tensor.get("name", ""), expected.inputs, "input")
        if name in inputs:
            raise RequestError(where, f"input {name!r} comes twice", "Send each input once.")
        taken = expected.inputs[name]
        where = f"{where} ({name})"
        taken.datatype(where, tensor.get("datatype", ""))
        shape = taken.shape(where, _sizes(tensor))
        is_coded = is_base64(taken.field, _parameters(f"{where}.parameters", tensor))
        inputs[name] = Place(where, name, taken, shape, is_coded)
        contents = {key: values for key, values in tensor.get("contents", {}).items() if len(values)}
        if contents and envelope.raw:
            hint = "Send all tensors in raw_input_contents, or none."
            raise RequestError(where, "has contents beside raw_input_contents", hint)
        if not envelope.raw:
            array = _from_contents(where, contents, shape, taken)
            given[name] = from_base64(where, array) if is_coded else array
    expected.all_inputs(inputs)
    rows = expected.rows(inputs)
    outputs = _outputs(message.get("outputs", ()), wanted.binary, expected)
    raw = any(asked.binary or expected.outputs[asked.name].datatype not in CONTENTS for asked in outputs)
    names = tuple(asked.name for asked in outputs)
    texts = any(asked.classes or expected.outputs[asked.name].datatype == "BYTES" for asked in outputs)
    shapes = [expected.outputs[asked.name].row for asked in outputs]
    elements = math.inf if any(-1 in row for row in shapes) else rows * sum(math.prod(row) for row in shapes)
    places = list(inputs.values())
    coded = tuple(place for place in places if place.base64)
    return Plan(places, rows, outputs, wanted, raw, given or None, coded, names, texts or not raw, elements)


def columns(envelope: Envelope, found: Plan) -> Columns:
    """The tensors of an envelope, whose head was checked. Raises RequestError."""
    if found.columns is not None:
        return found.columns
    if len(envelope.raw) != len(found.inputs):
        message = f"has {len(envelope.raw)} tensors for {len(found.inputs)} inputs"
        raise RequestError("raw_input_contents", message, "Send one for each input, in their order.")
    places = zip(found.inputs, envelope.raw, strict=True)
    arrays = {place.name: place.taken.from_bytes(place.where, data, place.shape) for place, data in places}
    for place in found.coded:
        arrays[place.name] = from_base64(place.where, arrays[place.name])
    return arrays


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
    """A shape, as far as one may go: none that is longer is that of an input."""
    shape = tensor.get("shape")
    sizes: list[int] = [] if shape is None else shape[:SIZES_MOST].tolist()
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
        raise RequestError(
            f"{where}.contents",
            f"expected {place} for {datatype}, came {others[0]}",
            f"Send {place}, or raw_input_contents.",
        )
    values = given.get(place, ())
    wanted = 1
    for size in shape:
        wanted *= size
    if len(values) != wanted:
        hint = "Let shape and contents agree." if given else f"Send {place}, or raw_input_contents."
        raise RequestError(where, f"shape {list(shape)} wants {wanted} elements, came {len(values)}", hint)
    if datatype == "BYTES":
        array: Array = taken.from_values(where, _texts(where, values))
    elif wanted == 0:
        array = np.empty(0, taken.dtype)
    else:
        array = values.astype(taken.dtype)
        if array.dtype.kind in "iu" and (array != values).any():
            at = int(np.argmax(array != values))
            message = f"element {at}, {values[at]}, does not fit into {datatype}"
            raise RequestError(where, message, f"Send what {datatype} can hold.")
    return taken.checked(where, array.reshape(shape))


def _texts(where: str, values: Sequence[bytes]) -> list[str]:
    try:
        return [str(value, "utf-8") for value in values]
    except UnicodeDecodeError:
        raise RequestError(where, "is not UTF-8", "Encode it as UTF-8.") from None
