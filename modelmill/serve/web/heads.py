"""The heads of messages: those of requests that were met before, and those of answers."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Any

KNOWN_MOST = 1024
"""Heads that are remembered."""
KNOWN_BYTES = 2048
"""The longest of them; more are the exception."""


class Known:
    """Heads of requests that were answered on the short way: what each asks for, and how long its body is."""

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[Any, int]] = {}

    def of(self, data: bytes) -> tuple[Any, bytes] | None:
        """What the head of one whole request asks for, and the body; None for a head that was not met."""
        end = data.find(b"\r\n\r\n") + 4
        found = self._heads.get(data[:end])
        if found is None or len(data) != end + found[1]:
            return None
        return found[0], data[end:]

    def add(self, data: bytes, opening: Any, size: int) -> None:
        """Remember the head of one whole request, whose body has `size` bytes, where the two plainly meet there."""
        end = data.find(b"\r\n\r\n") + 4
        if len(data) == end + size and end <= KNOWN_BYTES:
            if len(self._heads) >= KNOWN_MOST:
                self._heads.clear()
            self._heads[data[:end]] = opening, size


def head(status: int, content_type: str, length: int, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The line and the headers of an answer that keeps its connection.

    >>> head(200, "text/plain", 2)
    b'HTTP/1.1 200 OK\\r\\ncontent-type: text/plain\\r\\ncontent-length: 2\\r\\n\\r\\n'
    """
    return b"%s%d\r\n\r\n" % (_opening(status, content_type, headers), length)


@lru_cache(maxsize=4096)
def _opening(status: int, content_type: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """All of a head but the length."""
    told = "".join(f"{name}: {value}\r\n" for name, value in (("content-type", content_type), *headers))
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{told}content-length: ".encode("latin-1")
