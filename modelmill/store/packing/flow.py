"""Bytes on their way in and out: numbers and arrays read with refusals, payload written from its end."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelmill.errors import StorageError

Array = np.ndarray[Any, Any]


def damaged(what: str) -> StorageError:
    """The refusal of bytes that are no packed file of ours."""
    return StorageError("packed file", what, "Restore the file from a copy, or publish anew.")


def number(value: int) -> bytes:
    """A whole number in groups of seven bits, the lowest first.

    >>> number(300).hex()
    'ac02'
    """
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


class Source:
    """Bytes that are read once, from the first on; what is asked for beyond their end is refused."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._back = b""

    def take(self, count: int) -> bytes | memoryview:
        """The next so many bytes."""
        back, self._back = self._back[:count], self._back[count:]
        start, self._at = self._at, self._at + count - len(back)
        if self._at > len(self._data):
            raise damaged(f"it ends after {len(self._data)} bytes, in the middle of something")
        found = self._data[start : self._at]
        return back + bytes(found) if back else found

    def put_back(self, data: bytes) -> None:
        """Let these be the next bytes."""
        self._back = data + self._back

    def number(self, most: int) -> int:
        """The next number. Refused above `most`, before anything of that size is made."""
        value, shift = 0, 0
        while True:
            group = self.take(1)[0]
            value |= (group & 127) << shift
            shift += 7
            if value > most or shift > 63:
                raise damaged(f"it states {value} where at most {most} can be")
            if group < 128:
                return value

    def array(self, kind: str, count: int) -> Array:
        """The next numbers of a numpy type, read-only."""
        return np.frombuffer(self.take(np.dtype(kind).itemsize * count), kind)

    def end(self) -> None:
        """Refuse what is left, but zeros that an encoder had to fill up with."""
        rest = bytes(self.take(len(self._back) + len(self._data) - self._at))
        if rest.strip(b"\0"):
            raise damaged(f"{len(rest)} bytes too many follow its end")


class Tail:
    """Payload that is written from its end: what is put last comes first."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def put(self, data: bytes) -> None:
        """Let these bytes come before all others."""
        if data:
            self._parts.append(data)

    def take(self, count: int) -> bytes:
        """The first so many bytes, which are taken out; filled up with zeros where there are fewer."""
        taken = b""
        while self._parts and len(taken) < count:
            part = self._parts.pop()
            wanted = count - len(taken)
            taken += part[:wanted]
            self.put(part[wanted:])
        return taken.ljust(count, b"\0")

    def parts(self) -> list[bytes]:
        """All of it, in order."""
        return self._parts[::-1]
