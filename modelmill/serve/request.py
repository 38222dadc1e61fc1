"""An inference request as every wire hands it over, and the checks that all wires share.

A wire turns bytes into names, shapes and data; whether they are what a version takes is decided here, so that the same
fault is refused with the same words whichever way it came.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as member
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np

from modelmill.errors import RequestError
from modelmill.runtime.axes import fits
from modelmill.serve.engine.terms import Terms
from modelmill.signature import NO_DATE, Field, Signature

Array = np.ndarray[Any, Any]

UNSUPPORTED = {
    "shared_memory_region": "Send the data in the request.",
    "sequence_id": "Models here keep no state between requests.",
    "sequence_start": "Models here keep no state between requests.",
    "sequence_end": "Models here keep no state between requests.",
}
"""Parameters of extensions that are not offered: ignoring them would give a wrong answer."""

NUMBERS = frozenset({int, float})
ELEMENTS: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": NUMBERS,
    "O": frozenset({str}),
}
"""Kind of numpy dtype: the Python types that may stand for it."""

LITTLE = sys.byteorder == "little"

LONG_BYTES = 65_536
"""What is longer is read on a thread, whichever wire it came by."""

SMALL = 4096
"""Elements up to which bytes are searched more quickly than an array."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One output that a client wants: whether as bytes, and how many classes of it, 0 being the tensor itself."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request says of itself beside its tensors. timeout_s: for the queue and the run together."""

    binary: bool = False
    priority: int = 0
    timeout_s: float = math.inf

    def terms(self, terms: Terms, now: float) -> Terms:
        """The terms, made as strict as the request wants them."""
        if not self.priority and self.timeout_s == math.inf:
            return terms
        return Terms(min(terms.deadline, now + self.timeout_s), self.priority, terms.payer, terms.share)


NO_WISHES = Wishes()

FITS = "Send a number that it can hold."
STRINGS = "Every string is its length, 4 bytes with the lowest first, and then its bytes."

EMPTY_MOST = 65_536
"""So large the other sizes of a tensor may be, multiplied, of which one size is 0: no bytes of a body bound them."""

CLASSES_MOST = 1_000_000
"""So many numbers of an answer may be ranked by `classification`."""


@dataclass(frozen=True, slots=True)
class Request:
    """An inference request, decoded and checked against what a version takes."""

    id: str | None
    columns: dict[str, Array]
    rows: int
    outputs: tuple[Asked, ...]
    wishes: Wishes = NO_WISHES

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs that are wanted."""
        return tuple([asked.name for asked in self.outputs])


CODES = frozenset("bBhHiIlLqQfd")

FEW = 64
"""Elements up to which they are compared more quickly one by one than as an array."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input, with what its checks need worked out once."""

    field: Field
    dtype: np.dtype[Any] = member(init=False)
    wire: np.dtype[Any] = member(init=False)
    """As the bytes of a request have it: little-endian."""
    elements: frozenset[type] = member(init=False)
    """What may stand for an element in JSON."""
    code: str = member(init=False)
    """The element in the words of Python's `array`; empty where `plain` takes none."""
    largest: float = member(init=False)
    """The largest number that a float holds; 0 for what is no float."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        dtype = np.dtype(self.field.dtype)
        put(self, "dtype", dtype)
        put(self, "wire", dtype.newbyteorder("<"))
        put(self, "elements", ELEMENTS[dtype.kind])
        put(self, "largest", float(np.finfo(dtype).max) if dtype.kind == "f" else 0.0)
        put(self, "code", dtype.char if dtype.char in CODES and self.field.kind != "date" else "")

    def plain(self, tensor: Mapping[str, Any]) -> Array | None:
        """A tensor of JSON in which all is as it should be; None, quickly, where it is not, or not plainly so."""
        shape, data = tensor.get("shape"), tensor.get("data")
        if type(shape) is not list or type(data) is not list or tensor.get("datatype") != self.field.datatype:
            return None
        wanted = self.field.shape
        if not self.code or len(shape) != len(wanted) or "parameters" in tensor:
            return None
        count = 1
        for came, size in zip(shape, wanted, strict=True):
            if type(came) is not int or came < 1 or (came != size and size >= 0):
                return None
            count *= came
        if len(data) != count or not self.elements.issuperset(map(type, data)):
            return None
        few = count <= FEW
        if few and self.largest and not (-self.largest <= min(data) and max(data) <= self.largest):
            return None
        try:
            column = np.frombuffer(array(self.code, data), self.dtype)
        except OverflowError:
            return None
        if not few and self.largest and not np.isfinite(column).all():
            return None
        return column.reshape(shape)

    def datatype(self, where: str, came: Any) -> None:
        """Refuse another datatype."""
        if came != self.field.datatype:
            came = repr(came[:20]) if isinstance(came, str) else kind(came)
            wanted = self.field.datatype
            raise RequestError(f"{where}.datatype", f"expected {wanted}, came {came}", f"Send {wanted}.")

    def shape(self, where: str, shape: Any) -> tuple[int, ...]:
        """A shape that the input takes."""
        where = f"{where}.shape"
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            example = [1 if size < 0 else size for size in self.field.shape]
            raise RequestError(where, f"expected a list of sizes such as {example}", "Give a size for every axis.")
        if not self.field.shape and shape == [1]:
            shape = []  # there are clients that cannot send a scalar
        if not fits(shape, self.field.shape):
            message = f"expected {list(self.field.shape)}, came {str(shape)[:80]}"
            raise RequestError(where, message, "-1 is any size.")
        if self.field.axis is not None and shape[self.field.axis] == 0:
            raise RequestError(where, "has no rows", "Send at least one row.")
        if 0 in shape and math.prod(filter(None, shape)) > EMPTY_MOST:
            message = f"a tensor without elements may have {EMPTY_MOST:,} of other sizes, came {str(shape)[:80]}"
            raise RequestError(where, message, "Send the elements, or fewer rows.")
        return tuple(shape)

    def size_bytes(self, shape: Sequence[int]) -> int:
        """How many bytes a tensor of numbers has."""
        return math.prod(shape) * self.dtype.itemsize

    def from_bytes(self, where: str, data: memoryview, shape: tuple[int, ...]) -> Array:
        """The tensor that the bytes hold: a view of them where they are numbers that lie as a processor reads them."""
        if self.dtype.kind == "O":
            return self.checked(where, strings(where, data, math.prod(shape)).reshape(shape))
        wanted = self.size_bytes(shape)
        if len(data) != wanted:
            message = f"shape {list(shape)} of {self.field.datatype} wants {wanted} bytes, came {len(data)}"
            raise RequestError(where, message, "")
        if self.dtype.kind == "b" and wanted and np.frombuffer(data, np.uint8).max() > 1:
            raise RequestError(where, "a BOOL is a byte 0 or 1", "Send no other byte.")
        array = np.frombuffer(data, self.wire).reshape(shape)
        if not (array.flags.aligned and array.dtype.isnative):
            array = array.astype(self.dtype)
        return self.checked(where, array)

    def from_values(self, where: str, values: list[Any]) -> Array:
        """A flat tensor of values that came one by one, each of a type that may stand for an element."""
        if self.dtype.kind == "O":
            array = np.empty(len(values), object)
            array[:] = values
            return array
        try:
            with np.errstate(over="ignore"):
                array = np.array(values, self.dtype)
        except OverflowError:
            raise RequestError(where, f"a number does not fit into {self.field.datatype}", FITS) from None
        if array.dtype.kind == "f" and np.isinf(array).any():
            raise RequestError(where, f"a number does not fit into {self.field.datatype}", FITS)
        return array

    def checked(self, where: str, array: Array) -> Array:
        """The array, if what it misses may be missing."""
        if not self.field.nullable and self._has_gaps(array):
            raise RequestError(where, "a value is missing, which this input does not allow", "Give every value.")
        return array

    def _has_gaps(self, array: Array) -> bool:
        if array.dtype == object:
            return "" in array.reshape(-1).tolist()
        if array.dtype.kind == "f":
            return has_nan(array)
        return self.field.kind == "date" and bool((array == NO_DATE).any())


class Shaped(Protocol):
    """A tensor, or what says how large one is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a version takes and gives, worked out once for all its requests."""

    signature: Signature
    inputs: dict[str, Input] = member(init=False)
    outputs: dict[str, Field] = member(init=False)
    plain: tuple[Asked, ...] = member(init=False)
    """All outputs as JSON, or as a wire gives them by itself."""
    binary: tuple[Asked, ...] = member(init=False)
    """All outputs as bytes."""
    texts: bool = member(init=False)
    """Whether it takes text, which is read element by element even where it comes as bytes."""
    heads: dict[bytes, Any] = member(default_factory=dict, compare=False, repr=False)
    """What a wire remembers of the heads of requests; it grows within bounds that the wire keeps."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "inputs", {each.name: Input(each) for each in self.signature.inputs})
        put(self, "texts", any(each.datatype == "BYTES" for each in self.signature.inputs))
        put(self, "outputs", {each.name: each for each in self.signature.outputs})
        put(self, "plain", tuple(Asked(name, False) for name in self.outputs))
        put(self, "binary", tuple(Asked(name, True) for name in self.outputs))

    def all_inputs(self, columns: Mapping[str, object]) -> None:
        """Refuse a request without some input."""
        if len(columns) < len(self.inputs):
            missing = [name for name in self.inputs if name not in columns]
            hint = f"The model takes {listed(self.inputs)}."
            raise RequestError("inputs", f"missing: {', '.join(missing[:12])}", hint)

    def rows(self, columns: Mapping[str, Shaped]) -> int:
        """How many rows the columns have, every one as many."""
        found = -1
        for name, column in columns.items():
            axis = self.inputs[name].field.axis
            if axis is None:
                continue
            rows = column.shape[axis]
            if found < 0:
                found = rows
            elif rows != found:
                raise self._uneven(columns)
        return max(found, 1)

    def _uneven(self, columns: Mapping[str, Shaped]) -> RequestError:
        axes = {name: each.field.axis for name, each in self.inputs.items()}
        lengths = {name: columns[name].shape[axis] for name, axis in axes.items() if axis is not None}
        shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:8])
        return RequestError("inputs", f"have different numbers of rows: {shown}", "Give every input the same rows.")

    def asked(self, where: str, name: str, parameters: Mapping[str, Any], binary: bool) -> Asked:
        """One requested output, with its parameters."""
        if not parameters:
            return Asked(name, binary)
        chosen = flag(f"{where}.parameters.binary_data", parameters.get("binary_data", binary))
        classes = parameters.get("classification", 0)
        if classes or type(classes) is bool:
            self._check_classes(f"{where}.parameters.classification", name, classes)
        return Asked(name, chosen, int(classes))

    def _check_classes(self, where: str, name: str, classes: Any) -> None:
        each = self.outputs[name]
        if type(classes) is not int or not 0 < classes < 2**31:
            raise RequestError(where, f"expected a number of classes, 1 or more, came {kind(classes)}", "Such as 3.")
        if not _holds_scores(each):
            others = [field.name for field in self.outputs.values() if _holds_scores(field)]
            hint = f"It is for scores, such as {others[0]}." if others else ""
            raise RequestError(where, f"{name} holds no scores of classes", hint)

    def labels(self, name: str) -> tuple[str, ...]:
        """The classes whose scores an output holds; none where it holds something else."""
        row = math.prod(self.outputs[name].row)
        classes = self.signature.classes
        return tuple(map(str, classes)) if len(classes) == row and row > 1 else ()


def _holds_scores(field: Field) -> bool:
    """Whether an output has numbers for every row, which may be scores of classes."""
    return field.datatype not in ("BYTES", "BOOL") and field.axis == 0


def named(where: str, name: Any, known: Mapping[str, Any], what: str) -> str:
    """A name that is known."""
    if not isinstance(name, str):
        raise RequestError(f"{where}.name", f"expected a string, came {kind(name)}", f"Known: {listed(known)}.")
    if name not in known:
        close = get_close_matches(name[:200], list(known), n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Known: {listed(known)}."
        raise RequestError(f"{where}.name", f"the model has no {what} {name[:80]!r}", hint)
    return name


def wishes(parameters: Mapping[str, Any], binary: bool) -> Wishes:
    """What the parameters of a request ask for; `binary` is what its wire gives by itself."""
    if not parameters:
        return Wishes(binary) if binary else NO_WISHES
    chosen = flag("parameters.binary_data_output", parameters.get("binary_data_output", binary))
    priority = _count("parameters.priority", parameters.get("priority", 0))
    timeout_us = _count("parameters.timeout", parameters.get("timeout", 0))
    return Wishes(chosen, priority, timeout_us / 1e6 if timeout_us else math.inf)


def _count(where: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise RequestError(where, f"expected a whole number, 0 or more, came {kind(value)}", "Leave it out for none.")
    return int(value)


def supported(where: str, name: str, value: Any) -> None:
    """Refuse a parameter that would change the answer, and is not offered."""
    if name in UNSUPPORTED and value not in (0, False, ""):
        raise RequestError(f"{where}.{name}", "is not supported", UNSUPPORTED[name])


def flag(where: str, value: Any) -> bool:
    """A value that is true or false."""
    if not isinstance(value, bool):
        raise RequestError(where, f"expected true or false, came {kind(value)}", "Leave it out for its default.")
    return value


def strings(where: str, data: memoryview, count: int) -> Array:
    """Elements of four bytes of length, then as many bytes of UTF-8."""
    if count > len(data) // 4:
        raise RequestError(where, f"expected {count} strings, the bytes hold at most {len(data) // 4}", STRINGS)
    array = np.empty(count, object)
    at = 0
    for index in range(count):
        if at + 4 > len(data):
            raise RequestError(where, f"the bytes end before string {index}", STRINGS)
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise RequestError(where, f"string {index} says {length} bytes, {len(data) - at} are left", STRINGS)
        array[index] = as_text(where, data[at : at + length])
        at += length
    if at != len(data):
        raise RequestError(where, f"{len(data) - at} bytes follow the last string", STRINGS)
    return array


def as_text(where: str, data: bytes | memoryview) -> str:
    """UTF-8 as text."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise RequestError(where, "a string is not UTF-8", "Encode it as UTF-8.") from None


def has_nan(array: Array) -> bool:
    """Whether a float array holds a NaN.

    >>> has_nan(np.array([1.0, np.nan])), has_nan(np.array([np.inf, -np.inf]))
    (True, False)
    """
    found = np.isnan(array)
    return b"\1" in found.tobytes() if array.size <= SMALL else bool(found.any())


def encode(array: Array) -> bytes:
    """A tensor as the bytes of the binary extension.

    >>> encode(np.array(["ab", ""], object))
    b'\\x02\\x00\\x00\\x00ab\\x00\\x00\\x00\\x00'
    """
    if array.dtype != object:
        return array.tobytes() if LITTLE else array.astype(array.dtype.newbyteorder("<")).tobytes()
    texts = [str(value).encode() for value in array.reshape(-1).tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def classified(scores: Array, count: int, labels: Sequence[str]) -> Array:
    """The best classes of every row, as the extension writes them: "value:index" or "value:index:label".

    >>> classified(np.array([[0.1, 0.9]]), 1, ("a", "b")).tolist()
    [['0.900000:1:b']]

    Raises RequestError where there are too many numbers to be ranked while others wait.
    """
    if scores.size > CLASSES_MOST:
        message = f"would rank {scores.size:,} numbers, and {CLASSES_MOST:,} may be"
        raise RequestError("classification", message, "Ask for the numbers themselves, or send fewer rows.")
    rows = scores.reshape(len(scores), -1)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    found = np.empty(best.shape, object)
    form = "{:f}" if scores.dtype.kind == "f" else "{:d}"
    for row, places in enumerate(best.tolist()):
        for rank, place in enumerate(places):
            label = f":{labels[place]}" if labels else ""
            found[row, rank] = f"{form.format(rows[row, place])}:{place}{label}"
    return found


def kind(value: Any) -> str:
    """A value in words."""
    names = {type(None): "nothing", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), f"the number {str(value)[:40]}")


def listed(names: Mapping[str, Any]) -> str:
    """The first dozen names."""
    shown = list(names)[:12]
    return ", ".join(shown) + (", ..." if len(names) > 12 else "")


def whole(text: str | None) -> int | None:
    """The number that a text of a request is; None for any other. Python alone would take "1_0", and other digits.

    >>> whole("12"), whole("1_2"), whole("\u00b2")
    (12, None, None)
    """
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 18 else None
