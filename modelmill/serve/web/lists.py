"""Long lists of numbers in JSON, read piece by piece: in between, others have the interpreter.

To read JSON is one call that lets nobody else run, a second and more for a hundred megabytes. So the lists are taken
out of the text by their brackets, and each is read in pieces that end at commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from modelmill.errors import RequestError
from modelmill.serve.inputs import Input

Array = np.ndarray[Any, Any]

BYTES = 131_072
"""About so much is read at once, and no shorter list is taken out."""
NAME = b'"data"'
COLON = re.compile(rb"\s*:\s*\[")
MARK = "\x00list"
"""What stands for a list that was taken out, before its number."""


@dataclass(frozen=True, slots=True)
class Part:
    """A list that was taken out of a text: what lies between its brackets."""

    text: bytes
    begin: int
    end: int

    def pieces(self) -> Iterator[bytes]:
        """Lists of their own, one after the other, each of about so many bytes."""
        at = self.begin
        while at < self.end:
            stop = self.text.find(b",", at + BYTES, self.end)
            stop = self.end if stop < 0 else stop
            yield b"[%s]" % self.text[at:stop]
            at = stop + 1

    def whole(self) -> bytes:
        """The list."""
        return b"[%s]" % self.text[self.begin : self.end]


def lifted(text: bytes) -> tuple[bytes, dict[str, Part]]:
    """A JSON text without its long flat lists of numbers, and those by what stands for them.

    >>> short, parts = lifted(b'{"data": [' + b"1," * 70_000 + b"2]}")
    >>> short, [part.end - part.begin for part in parts.values()]
    (b'{"data": "\\\\u0000list0"}', [140001])
    """
    kept: list[bytes] = []
    parts: dict[str, Part] = {}
    at = looked = 0
    while (looked := text.find(NAME, looked)) >= 0:
        looked += len(NAME)
        opens = COLON.match(text, looked)
        begin = opens.end() if opens else len(text)
        end = text.find(b"]", begin)
        if end - begin < BYTES or any(text.find(sign, begin, end) >= 0 for sign in (b"[", b"{", b'"')):
            continue
        mark = f"{MARK}{len(parts)}"
        parts[mark] = Part(text, begin, end)
        kept += text[at : begin - 1], orjson.dumps(mark)
        at = looked = end + 1
    return (b"".join((*kept, text[at:])), parts) if parts else (text, parts)


def numbers(where: str, part: Part, taken: Input) -> Array | list[Any]:
    """The elements of a list that was taken out, flat; as they came, where not all of them are plain numbers.

    Raises RequestError where it is no list.
    """
    found: list[Array] = []
    for piece in part.pieces():
        values = _read(where, piece)
        if not values or not taken.elements.issuperset(map(type, values)):
            return _read(where, part.whole())
        found.append(taken.from_values(where, values))
    return np.concatenate(found)


def _read(where: str, text: bytes) -> list[Any]:
    try:
        values: list[Any] = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        hint = "A missing value is null: NaN is not JSON." if b"NaN" in text[:100_000] else ""
        raise RequestError(where, f"is not JSON: {error}", hint) from None
    return values
