"""Long lists in JSON, read piece by piece: in between, others have the interpreter.

To read JSON is one call that lets nobody else run, a second and more for a hundred megabytes, and so is to let go of
what it gave. So a list is cut at commas between its items, and each piece is read, used and forgotten before the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from modelmill.errors import RequestError

BYTES = 131_072
"""About so much is read at once, and no shorter list is taken out."""
NAME = b'"data"'
COLON = re.compile(rb"\s*:(?:\s*\[){1,8}")
CLOSES = re.compile(rb"(?:\s*\]){0,8}\s*")
ESCAPED = re.compile(rb"\\*.?|.", re.DOTALL)
"""A byte, and what a backslash belongs to: between the two no text is cut."""
OPENS = re.compile(rb"\s*\[")
MARK = "\x00list"
"""What stands for a list that was taken out, before its number."""

STEPS = np.zeros(256, np.int8)
STEPS[list(b"[{")] = 1
STEPS[list(b"]}")] = -1
"""How much deeper it is behind a byte."""


@dataclass(frozen=True, slots=True)
class Part:
    """A list in a text: what lies between its brackets, and the commas at which it is cut.

    ends: whether its bracket is closed at all.
    """

    text: bytes
    begin: int
    cuts: tuple[int, ...]
    end: int
    ends: bool = True

    def pieces(self, where: str) -> Iterator[tuple[list[Any], bytes]]:
        """Its items in lists of their own, each with its text. Raises RequestError, which says where it is no JSON."""
        at = self.begin
        for stop in (*self.cuts, self.end):
            text = b"[%s]" % self.text[at:stop]
            try:
                values: list[Any] = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                hint = "A missing value is null: NaN is not JSON." if b"NaN" in text[:100_000] else ""
                message = f"is not JSON: {error.msg}, near byte {at + max(error.pos - 1, 0)} of the body"
                raise RequestError(where, message, hint) from None
            if not values and self.cuts:
                raise RequestError(where, f"is not JSON: a comma too many, at byte {at - 1} of the body", "")
            yield values, text
            at = stop + 1
        if not self.ends:
            raise RequestError(where, "is not JSON: a list does not end", "")


def whole(text: bytes) -> Part | None:
    """The list that a text is; None where it is none, or something else follows."""
    opens = OPENS.match(text)
    part = _part(text, opens.end()) if opens else None
    return part if part is not None and not text[part.end + 1 :].strip(b" \t\r\n") else None


def lifted(text: bytes) -> tuple[bytes, dict[str, Part]]:
    """A JSON text without its long lists of data, and those by what stands for them.

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
        part = _longest(text, looked, opens.end()) if opens else None
        if part is None or not part.ends or part.end - part.begin < BYTES:
            continue
        mark = f"{MARK}{len(parts)}"
        parts[mark] = part
        kept += text[at : part.begin - 1], orjson.dumps(mark)
        at = looked = part.end + 1
    return (b"".join((*kept, text[at:])), parts) if parts else (text, parts)


def _longest(text: bytes, begin: int, end: int) -> Part:
    """The list whose bracket is the first there; or one in it, where it holds nothing else, and is too long in one."""
    at = text.index(b"[", begin) + 1
    part = outer = _part(text, at)
    for depth in range(1, text.count(b"[", at, end) + 1):
        if part.cuts or part.end - part.begin < BYTES:
            break
        at = text.index(b"[", at, end) + 1
        inner = _part(text, at)
        closes = CLOSES.match(text, inner.end + 1, outer.end)
        if closes is None or closes.end() != outer.end or closes[0].count(b"]") != depth - 1:
            return outer
        part = inner
    return part


def _part(text: bytes, begin: int) -> Part:
    """The list whose bracket opens before `begin`."""
    end = text.find(b"]", begin)
    if end >= 0 and not any(text.find(sign, begin, end) >= 0 for sign in (b"[", b"{", b'"')):
        return Part(text, begin, tuple(_commas(text, begin, end)), end)
    cuts: list[int] = []
    at, depth, inside = begin, 0, False
    while at < len(text):
        whole_character = ESCAPED.match(text, at + BYTES - 1)
        stop = whole_character.end() if whole_character else len(text)
        comma, end, depth, inside = _places(text[at:stop], depth, inside)
        if end >= 0:
            return Part(text, begin, tuple(cuts), at + end)
        cuts += [at + comma] if comma >= 0 else []
        at = stop
    return Part(text, begin, tuple(cuts), len(text), ends=False)


def _commas(text: bytes, begin: int, end: int) -> Iterator[int]:
    """Where a list of numbers is cut."""
    while (begin := text.find(b",", begin + BYTES, end) + 1) > 0:
        yield begin - 1


def _places(text: bytes, depth: int = 0, inside: bool = False) -> tuple[int, int, int, bool]:
    """The last comma between items of a list, and the bracket that ends it, in a part of its text; -1 for none.

    depth, inside: in how many brackets the text begins, and whether in a string; both come back for its end.

    >>> _places(b'1, [2, 3], "],", [4'), _places(b'[1], [2]], 5')
    ((15, -1, 1, False), (3, 8, -1, False))
    """
    if inside or b'"' in text:
        text, inside = _without_strings(text, inside)
    codes = np.frombuffer(text, np.uint8)
    depths = np.cumsum(STEPS[codes], dtype=np.int32) + depth
    ends = np.flatnonzero(depths < 0)
    end = int(ends[0]) if len(ends) else -1
    between = np.flatnonzero((codes[:end] if end >= 0 else codes) == ord(","))
    commas = between[depths[between] == 0]
    return int(commas[-1]) if len(commas) else -1, end, int(depths[-1]), inside


def _without_strings(text: bytes, inside: bool) -> tuple[bytes, bool]:
    """A text of the same length in which nothing that stands in strings means anything."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    codes = np.frombuffer(text, np.uint8)
    strings = (np.cumsum(codes == ord('"'), dtype=np.int32) + inside) % 2
    return np.where(strings, 0, codes).astype(np.uint8).tobytes(), bool(strings[-1])
