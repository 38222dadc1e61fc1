"""Messages as their .proto files describe them: bytes to plain values, and plain values to bytes.

A message is a mapping of field name to value; what did not come is not in it. Repeated numbers are arrays. There are no
generated classes: nothing has to be kept in step, and messages of the same name in other libraries are not in the way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from modelmill.errors import RequestError

Array = np.ndarray[Any, Any]
Value = dict[str, Any]

FILES = ("inference.proto", "repository.proto", "health.proto")
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
NUMBERS = {
    "bool": VARINT,
    "int32": VARINT,
    "int64": VARINT,
    "uint32": VARINT,
    "uint64": VARINT,
    "float": FIXED32,
    "double": FIXED64,
}
"""How every number that these files use goes over the wire."""

DTYPES = {
    "bool": "?",
    "int32": "<i4",
    "int64": "<i8",
    "uint32": "<u4",
    "uint64": "<u8",
    "float": "<f4",
    "double": "<f8",
}
WIDTHS = {FIXED64: 8, FIXED32: 4}
"""Bytes of a field that does not say how many it has."""
SMALL = 64
"""Packed bytes up to which a loop is quicker than numpy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a message; `key` is the type of a map's keys."""

    number: int
    name: str
    type: str
    repeated: bool = False
    key: str = ""


@dataclass(slots=True)
class Room:
    """How many fields a message may have; it counts them while the message is read."""

    most: float
    taken: int = 0

    def take(self) -> None:
        """Count a field. Raises RequestError for one too many."""
        self.taken += 1
        if self.taken > self.most:
            raise crowded(f"more than {self.most:,} fields", f"{self.most:,}")


@dataclass(frozen=True, slots=True)
class Method:
    """One call of a service: the names of its messages, and which of them are streams."""

    path: str
    request: str
    response: str
    streams_in: bool
    streams_out: bool


@dataclass(slots=True)
class Schema:
    """What one or several .proto files say; it grows while they are read."""

    messages: dict[str, list[Entry]] = field(default_factory=dict)
    enums: dict[str, dict[str, int]] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)
    numbered: dict[str, dict[int, Entry]] = field(default_factory=dict)

    def encode(self, name: str, value: Mapping[str, Any]) -> bytes:
        """The bytes of a message; a field that is not given is left out.

        >>> schema().encode("inference.ModelReadyRequest", {"name": "iris"})
        b'\\n\\x04iris'
        """
        parts: list[bytes] = []
        for entry in self.messages[name]:
            if entry.name not in value:
                continue
            given = value[entry.name]
            if entry.key:
                pair = (Entry(1, "key", entry.key), Entry(2, "value", entry.type))
                inner = (b"".join(self._one(e, v) for e, v in zip(pair, item, strict=True)) for item in given.items())
                parts += [tagged(entry.number, item) for item in inner]
            elif not entry.repeated:
                parts.append(self._one(entry, given))
            elif entry.type in NUMBERS:
                parts.append(tagged(entry.number, packed(given, entry.type)) if len(given) else b"")
            else:
                parts += [self._one(entry, item) for item in given]
        return b"".join(parts)

    def _one(self, entry: Entry, value: Any) -> bytes:
        if entry.type in self.messages:
            return tagged(entry.number, self.encode(entry.type, value))
        if entry.type == "string":
            return tagged(entry.number, value.encode())
        if entry.type == "bytes":
            return tagged(entry.number, value)
        if entry.type in self.enums:
            return varint(entry.number << 3) + varint(self.enums[entry.type][value])
        return varint(entry.number << 3 | NUMBERS[entry.type]) + packed([value], entry.type)

    def decode(self, name: str, data: bytes | memoryview, most: float = math.inf) -> Value:
        """The message in `data`; fields that the schema does not know are passed over.

        Raises RequestError, also where it has more than `most` fields, with those of the messages in it. Of repeated
        numbers and bytes only the first is counted: a tensor has as many as it has elements.
        """
        return self._read(name, data, Room(most))

    def _read(self, name: str, data: bytes | memoryview, room: Room) -> Value:
        entries = self.numbered[name]
        found: Value = {}
        numbers: dict[int, bytearray] = {}
        texts: dict[int, list[bytes]] = {}
        for number, kind, piece in pieces(data):
            if number in numbers:
                numbers[number] += _as_packed(entries[number], kind, piece)
                continue
            if number in texts:
                texts[number].append(bytes(_long(entries[number], kind, piece)))
                continue
            room.take()
            entry = entries.get(number)
            if entry is None:
                continue
            if entry.key:
                key, item = self._pair(entry, _long(entry, kind, piece), room)
                found.setdefault(entry.name, {})[key] = item
            elif not entry.repeated:
                found[entry.name] = self._value(entry, kind, piece, room)
            elif entry.type in NUMBERS:
                numbers[number] = bytearray(_as_packed(entry, kind, piece))
            elif entry.type == "bytes":
                found[entry.name] = texts[number] = [self._value(entry, kind, piece, room)]
            else:
                found.setdefault(entry.name, []).append(self._value(entry, kind, piece, room))
        for number, packed in numbers.items():
            found[entries[number].name] = _numbers(entries[number], packed)
        return found

    def _pair(self, entry: Entry, data: memoryview, room: Room) -> tuple[Any, Any]:
        key: Any = "" if entry.key == "string" else 0
        value: Any = {} if entry.type in self.messages else ""
        for number, kind, piece in pieces(data):
            room.take()
            if number == 1:
                key = self._value(Entry(1, f"{entry.name}.key", entry.key), kind, piece, room)
            elif number == 2:
                value = self._value(Entry(2, f"{entry.name}.value", entry.type), kind, piece, room)
        return key, value

    def _value(self, entry: Entry, kind: int, piece: int | memoryview, room: Room) -> Any:
        if entry.type in self.messages:
            return self._read(entry.type, _long(entry, kind, piece), room)
        if entry.type == "bytes":
            return bytes(_long(entry, kind, piece))
        if entry.type == "string":
            return text(entry.name, _long(entry, kind, piece))
        if entry.type in self.enums:
            return piece
        if kind != NUMBERS[entry.type]:
            raise _broken(f"{entry.name} is no {entry.type}")
        return _numbers(entry, _as_packed(entry, kind, piece))[0].item()


@cache
def schema() -> Schema:
    """What the .proto files beside this module say."""
    found = Schema()
    for file in FILES:
        _Reader(found, (Path(__file__).parent / file).read_text("utf-8")).read()
    found.numbered = {name: {entry.number: entry for entry in listed} for name, listed in found.messages.items()}
    return found


class _Reader:
    """Reads one .proto file into a schema, token by token; it keeps its place."""

    def __init__(self, found: Schema, source: str) -> None:
        self.found = found
        plain = re.sub(r"//[^\n]*", "", source)
        self.tokens: Iterator[str] = iter(re.findall(r'"[^"]*"|[\w.]+|[{}=;<>,()]', plain))
        self.package = ""

    def read(self) -> None:
        """Everything in the file."""
        takes: dict[str, Callable[[], None]] = {
            "syntax": self._skip,
            "package": self._package,
            "service": self._service,
            "message": lambda: self._message(self.package, self._until("{")[0]),
            "enum": lambda: self._enum(self.package, self._until("{")[0]),
        }
        for token in self.tokens:
            takes[token]()
        self._resolve()

    def _until(self, *ends: str) -> list[str]:
        taken: list[str] = []
        while (token := next(self.tokens)) not in ends:
            taken.append(token)
        return [*taken, token]

    def _skip(self) -> None:
        self._until(";")

    def _package(self) -> None:
        self.package = self._until(";")[0]

    def _service(self) -> None:
        service = self._until("{")[0]
        while next(self.tokens) == "rpc":
            words = [word for word in self._until("}") if word not in ("(", ")", "{", "}", "returns")]
            path = f"/{self.package}.{service}/{words.pop(0)}"
            streams_in = words[0] == "stream"
            streams_out = words[-2] == "stream"
            request, response = (self._full(word) for word in words if word != "stream")
            self.found.methods[path] = Method(path, request, response, streams_in, streams_out)

    def _full(self, name: str) -> str:
        return name if "." in name else f"{self.package}.{name}"

    def _message(self, scope: str, short: str) -> None:
        name = f"{scope}.{short}"
        entries = self.found.messages.setdefault(name, [])
        in_choice = False
        while True:
            words = self._until(";", "{", "}")
            if words[0] == "message":
                self._message(name, words[1])
            elif words[0] == "enum":
                self._enum(name, words[1])
            elif words[0] == "oneof":
                in_choice = True
            elif words[0] == "}":
                if not in_choice:
                    return
                in_choice = False
            else:
                entries.append(_entry(words))

    def _enum(self, scope: str, short: str) -> None:
        values = self.found.enums.setdefault(f"{scope}.{short}", {})
        while (words := self._until(";", "}"))[0] != "}":
            values[words[0]] = int(words[2])

    def _resolve(self) -> None:
        """Types by their full names: looked for in the message itself, then outwards."""
        known = {**self.found.messages, **self.found.enums}
        for name, entries in self.found.messages.items():
            scopes = [name.rsplit(".", up)[0] + "." for up in range(1, name.count(".") + 1)]
            for place, entry in enumerate(entries):
                names = [scope + entry.type for scope in (f"{name}.", *scopes)]
                full = next((full for full in names if full in known), entry.type)
                entries[place] = Entry(entry.number, entry.name, full, entry.repeated, entry.key)


def _entry(words: Sequence[str]) -> Entry:
    """A field from its words: `repeated int64 shape = 3 ;` or `map < string , string > properties = 6 ;`."""
    if words[0] == "map":
        return Entry(int(words[8]), words[6], words[4], key=words[2])
    repeated = words[0] == "repeated"
    kind, name, _, number = words[repeated : repeated + 4]
    return Entry(int(number), name, kind, repeated)


def pieces(data: bytes | memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Field number, wire type, and the number or the bytes of every field in `data`. Raises RequestError."""
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        tag = data[at]
        if tag < 0x80:
            at += 1
        else:
            tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _broken("a field has the number 0")
        size = WIDTHS.get(kind, -1)
        if kind in (LENGTH, VARINT):
            size = data[at] if at < end else 0x80
            if size < 0x80:
                at += 1
            else:
                size, at = read_varint(data, at)
            if kind == VARINT:
                yield number, kind, size
                continue
        elif size < 0:
            raise _broken(f"field {number} has the wire type {kind}")
        if size > end - at:
            raise _broken(f"field {number} says {size} bytes, {end - at} are left")
        yield number, kind, view[at : at + size]
        at += size


def read_varint(view: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it. Raises RequestError.

    >>> read_varint(b"\\xac\\x02", 0)
    (300, 2)
    """
    found = shift = 0
    while True:
        if at >= len(view):
            raise _broken("it ends within a number")
        byte = view[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise _broken("a number has more than ten bytes")


def varint(value: int) -> bytes:
    """A number as it goes over the wire; negative ones as 64 bits.

    >>> varint(300), len(varint(-1))
    (b'\\xac\\x02', 10)
    """
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= 0xFFFF_FFFF_FFFF_FFFF
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def tagged(number: int, data: bytes) -> bytes:
    """A field of so many bytes.

    >>> tagged(1, b"ab")
    b'\\n\\x02ab'
    """
    return varint(number << 3 | LENGTH) + varint(len(data)) + data


def packed(values: Sequence[Any] | Array, type: str) -> bytes:
    """Numbers one after the other."""
    if NUMBERS[type] != VARINT:
        return np.asarray(values, DTYPES[type]).tobytes()
    if len(values) <= SMALL:
        return b"".join(map(varint, map(int, values)))
    return _as_varints(np.asarray(values, DTYPES[type]))


def _as_varints(numbers: Array) -> bytes:
    """Whole numbers one after the other; negative ones as 64 bits."""
    left = numbers.astype("<i8" if numbers.dtype.kind == "i" else "<u8").view("<u8")
    octets = np.zeros((len(left), 10), np.uint8)
    more = np.ones(len(left), bool)
    goes = np.zeros(octets.shape, bool)
    for place in range(10):
        goes[:, place] = more
        octets[:, place] = left & 0x7F
        left = left >> np.uint64(7)
        more = left > 0
        octets[more, place] |= 0x80
        if not more.any():
            break
    return octets[goes].tobytes()


def _as_packed(entry: Entry, kind: int, piece: int | memoryview) -> bytes | memoryview:
    """What a field brings of the numbers of `entry`, one or many, as they would be packed."""
    wire = NUMBERS[entry.type]
    if isinstance(piece, int):
        if wire != VARINT:
            raise _broken(f"{entry.name} is no {entry.type}")
        return varint(piece)
    if kind not in (wire, LENGTH):
        raise _broken(f"{entry.name} is no {entry.type}")
    if wire == VARINT:
        if piece and piece[-1] >= 0x80:
            raise _broken("it ends within a number")
    elif len(piece) % WIDTHS[wire]:
        raise _broken(f"{entry.name} has {len(piece)} bytes, which are no {entry.type}s")
    return piece


def _numbers(entry: Entry, packed: bytes | bytearray | memoryview) -> Array:
    """Packed numbers as an array."""
    dtype = DTYPES[entry.type]
    return _as(varints(packed), dtype) if NUMBERS[entry.type] == VARINT else np.frombuffer(packed, dtype)


def _as(numbers: Array, dtype: str) -> Array:
    """Numbers as the wire has them, 64 bits without a sign, as what they stand for."""
    if dtype == "?":
        return np.asarray(numbers != 0)
    return numbers.view("<i8").astype(dtype) if dtype[1] == "i" else numbers.astype(dtype)


def varints(data: bytes | bytearray | memoryview) -> Array:
    """All numbers in `data`. Raises RequestError where the last one is cut off."""
    if len(data) <= SMALL:
        found, at = [], 0
        while at < len(data):
            value, at = read_varint(data, at)
            found.append(value)
        return np.array(found, np.uint64)
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if not len(ends) or ends[-1] != len(octets) - 1:
        raise _broken("it ends within a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise _broken("a number has more than ten bytes")
    values = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max())):
        which = lengths > place
        septets = (octets[starts[which] + place] & 0x7F).astype(np.uint64)
        values[which] |= septets << np.uint64(7 * place)
    return values


def text(where: str, data: memoryview) -> str:
    """UTF-8 as text. Raises RequestError."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise RequestError(where, "is not UTF-8", "Encode it as UTF-8.") from None


def _long(entry: Entry, kind: int, piece: int | memoryview) -> memoryview:
    if kind != LENGTH or isinstance(piece, int):
        raise _broken(f"{entry.name} is no {entry.type}")
    return piece


def _broken(what: str) -> RequestError:
    return RequestError("message", f"cannot be read: {what}", "Is it a message of this method?")


def crowded(came: str, most: str) -> RequestError:
    """The error for a message of more fields than any client sends."""
    hint = "Leave out what the method does not take; is it a message of this method?"
    return RequestError("message", f"came {came}, expected {most} at most", hint)
