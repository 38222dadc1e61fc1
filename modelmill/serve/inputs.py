"""One input of a model: what the tensors that requests bring for it must be, and how they are read."""

from __future__ import annotations

import base64
import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import numpy as np

from modelmill.errors import RequestError
from modelmill.runtime.axes import fits
from modelmill.signature import NO_DATE, Field

Array = np.ndarray[Any, Any]

NUMBERS = frozenset({int, float})
ELEMENTS: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": NUMBERS,
    "O": frozenset({str}),
}
"""Kind of numpy dtype: the Python types that may stand for it."""

SMALL = 4096
"""Elements up to which bytes are searched more quickly than an array."""

FITS = "Send a number that it can hold."
STRINGS = "Every string is its length, 4 bytes with the lowest first, and then its bytes."

EMPTY_MOST = 65_536
"""So large the other sizes of a tensor may be, multiplied, of which one size is 0: no bytes of a body bound them."""

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
            message = f"expected a list of sizes such as {example}, came {_wrong(shape)}"
            raise RequestError(where, message, "Give a size for every axis.")
        if not self.field.shape and shape == [1]:
            shape = []  # there are clients that cannot send a scalar
        if len(self.field.shape) == 1 and len(shape) == 2 and shape[1] == 1:
            shape = shape[:1]  # MLServer's clients send a table as columns of [rows, 1]
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

    def from_values(self, where: str, values: list[Any], before: int = 0) -> Array:
        """A flat tensor of values that came one by one, each of a type that may stand for an element.

        before: elements that came before them. Raises RequestError for a number that is too large.
        """
        if self.dtype.kind == "O":
            array = np.empty(len(values), object)
            array[:] = values
            return array
        try:
            with np.errstate(over="ignore"):
                array = np.array(values, self.dtype)
        except OverflowError:
            raise self._unfit(where, values, before) from None
        if array.dtype.kind == "f" and np.isinf(array).any():
            raise self._unfit(where, values, before)
        return array

    def _unfit(self, where: str, values: list[Any], before: int) -> RequestError:
        """The error for numbers of which one is too large: which, and what came."""
        info = np.finfo(self.dtype) if self.dtype.kind == "f" else np.iinfo(self.dtype)
        bound = float if self.largest else int
        low, high = bound(info.min), bound(info.max)
        at = next((at for at, value in enumerate(values) if value is not None and (value < low or value > high)), 0)
        message = f"element {before + at}, {values[at]!r:.40}, does not fit into {self.field.datatype}"
        return RequestError(where, message, FITS)

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


def is_base64(field: Field, parameters: Mapping[str, Any]) -> bool:
    """Whether texts come as base64, as MLServer's `content_type` says of a tensor; no other type changes them."""
    return field.datatype == "BYTES" and parameters.get("content_type") == "base64"


def from_base64(where: str, texts: Array) -> Array:
    """The texts that came as base64. Raises RequestError."""
    found = np.empty(texts.size, object)
    for index, text in enumerate(texts.reshape(-1).tolist()):
        try:
            found[index] = as_text(where, base64.b64decode(text, validate=True))
        except ValueError:
            message = f"content_type says base64, element {index} is {text[:40]!r}"
            raise RequestError(where, message, "Encode it with A-Z, a-z, 0-9, + and /, padded with =.") from None
    return found.reshape(texts.shape)


def has_nan(array: Array) -> bool:
    """Whether a float array holds a NaN.

    >>> has_nan(np.array([1.0, np.nan])), has_nan(np.array([np.inf, -np.inf]))
    (True, False)
    """
    found = np.isnan(array)
    return b"\1" in found.tobytes() if array.size <= SMALL else bool(found.any())


def _wrong(shape: Any) -> str:
    """What came in place of sizes.

    >>> _wrong([2, -5]), _wrong([2, "3"]), _wrong(None)
    ('the number -5 among them', 'a string among them', 'nothing')
    """
    if not isinstance(shape, list):
        return kind(shape)
    return f"{kind(next(size for size in shape if type(size) is not int or size < 0))} among them"


def kind(value: Any) -> str:
    """A value in words."""
    names = {type(None): "nothing", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), f"the number {str(value)[:40]}")
