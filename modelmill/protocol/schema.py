"""Messages as their .proto files describe them: bytes to plain values, and plain values to bytes.

A message is a mapping of field name to value; what did not come is not in it. Repeated numbers are arrays. There are no
generated classes: nothing has to be kept in step, and messages of the same name in other libraries are not in the way.
"""

from __future__ import annotations

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

    def decode(self, name: str, data: bytes | memoryview) -> Value:
        """The message in `data`; fields that the schema does not know are passed over. Raises RequestError."""
        entries = self.numbered[name]
        found: Value = {}
        for number, kind, piece in pieces(data):
            entry = entries.get(number)
            if entry is None:
                continue
            if entry.key:
                key, item = self._pair(entry, _long(entry, kind, piece))
                found.setdefault(entry.name, {})[key] = item
            elif entry.repeated and entry.type in NUMBERS:
                found.setdefault(entry.name, []).append(_unpacked(entry, kind, piece))
            elif entry.repeated:
                found.setdefault(entry.name, []).append(self._value(entry, kind, piece))
            else:
                found[entry.name] = self._value(entry, kind, piece)
        for entry in entries.values():
            if entry.repeated and entry.type in NUMBERS and entry.name in found:
                chunks = found[entry.name]
                found[entry.name] = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        return found

    def _pair(self, entry: Entry, data: memoryview) -> tuple[Any, Any]:
        key: Any = "" if entry.key == "string" else 0
        value: Any = {} if entry.type in self.messages else ""
        for number, kind, piece in pieces(data):
            if number == 1:
                key = self._value(Entry(1, f"{entry.name}.key", entry.key), kind, piece)
            elif number == 2:
                value = self._value(Entry(2, f"{entry.name}.value", entry.type), kind, piece)
        return key, value

    def _value(self, entry: Entry, kind: int, piece: int | memoryview) -> Any:
        if entry.type in self.messages:
            return self.decode(entry.type, _long(entry, kind, piece))
        if entry.type == "bytes":
            return bytes(_long(entry, kind, piece))
        if entry.type == "string":
            return text(entry.name, _long(entry, kind, piece))
        if entry.type in self.enums:
            return piece
        if kind != NUMBERS[entry.type]:
            raise _broken(f"{entry.name} is no {entry.type}")
        return _unpacked(entry, kind, piece)[0].item()


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
        tag, at = read_varint(view, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _broken("a field has the number 0")
        if kind == VARINT:
            value, at = read_varint(view, at)
            yield number, kind, value
            continue
        size, at = read_varint(view, at) if kind == LENGTH else ({FIXED64: 8, FIXED32: 4}.get(kind, -1), at)
        if size < 0:
            raise _broken(f"field {number} has the wire type {kind}")
        if size > end - at:
            raise _broken(f"field {number} says {size} bytes, {end - at} are left")
        yield number, kind, view[at : at + size]
        at += size


def read_varint(view: bytes | memoryview, at: int) -> tuple[int, int]:
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
    if NUMBERS[type] == VARINT:
        return b"".join(map(varint, map(int, values)))
    return np.asarray(values, DTYPES[type]).tobytes()


def _unpacked(entry: Entry, kind: int, piece: int | memoryview) -> Array:
    """The numbers of a field that holds one of them, or many packed."""
    wire, dtype = NUMBERS[entry.type], DTYPES[entry.type]
    if isinstance(piece, int):
        if wire != VARINT:
            raise _broken(f"{entry.name} is no {entry.type}")
        return _as(np.array([piece], np.uint64), dtype)
    if kind not in (wire, LENGTH):
        raise _broken(f"{entry.name} is no {entry.type}")
    if wire == VARINT:
        return _as(varints(piece), dtype)
    if len(piece) % np.dtype(dtype).itemsize:
        raise _broken(f"{entry.name} has {len(piece)} bytes, which are no {entry.type}s")
    return np.frombuffer(piece, dtype)


def _as(numbers: Array, dtype: str) -> Array:
    """Numbers as the wire has them, 64 bits without a sign, as what they stand for."""
    if dtype == "?":
        return np.asarray(numbers != 0)
    return numbers.view("<i8").astype(dtype) if dtype[1] == "i" else numbers.astype(dtype)


def varints(data: memoryview) -> Array:
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
        raise RequestError(where, "is not UTF-8", "") from None


def _long(entry: Entry, kind: int, piece: int | memoryview) -> memoryview:
    if kind != LENGTH or isinstance(piece, int):
        raise _broken(f"{entry.name} is no {entry.type}")
    return piece


def _broken(what: str) -> RequestError:
    return RequestError("message", f"cannot be read: {what}", "Is it a message of this method?")
