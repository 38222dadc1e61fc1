"""What came packed, as it was before: within a limit, and on a thread where it is long."""

from __future__ import annotations

import asyncio
import zlib

from modelmill.errors import Overloaded, RequestError, TooLarge
from modelmill.serve.request import LONG_BYTES

ENCODINGS = ("gzip", "deflate")
"""Ways of packing that are taken."""

GZIP, ZLIB, RAW = 31, 15, -15
"""How zlib calls what stands around the packed bytes; RAW is nothing."""

LONG_MOST = 4
"""Long bodies that came packed, which one sender may have inflated at a time; the next ones wait for their turn."""

HELD_BYTES = 1 << 28
"""The most that long bodies may have together which one sender had inflated and which are not answered."""


def inflated(where: str, data: bytes, encoding: str, most_bytes: int) -> bytes | None:
    """What was packed; None where it has more bytes than that. Raises RequestError.

    deflate is zlib's format; the bare one, which some send by that name, is taken as well.

    >>> inflated("body", zlib.compress(b"abc"), "deflate", 3), inflated("body", zlib.compress(b"abc"), "deflate", 2)
    (b'abc', None)
    """
    opener = zlib.decompressobj(GZIP if encoding == "gzip" else ZLIB if _is_zlib(data) else RAW)
    try:
        found = opener.decompress(data, most_bytes + 1)
    except zlib.error:
        raise RequestError(where, f"is no {encoding} that can be read", f"Is it {encoding}, and undamaged?") from None
    if len(found) > most_bytes:
        return None
    if not opener.eof:
        raise RequestError(where, f"is no whole {encoding}: its end is missing", "Send all of it.")
    if opener.unused_data:
        message = f"goes on for {len(opener.unused_data)} bytes after the end of its {encoding}"
        raise RequestError(where, message, "Pack it in one piece.")
    return found


def _is_zlib(data: bytes) -> bool:
    """Whether bytes begin as zlib's format does. What is deflated bare never does: its padding would have to be set."""
    return len(data) > 1 and data[0] & 15 == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0


def at_once(where: str, data: bytes, encoding: str, most_bytes: int) -> bytes | None:
    """What was packed; None where that is long, and so not for the loop. Raises RequestError, TooLarge."""
    if len(data) > LONG_BYTES:
        return None
    found = inflated(where, data, encoding, min(most_bytes, LONG_BYTES))
    if found is None and most_bytes <= LONG_BYTES:
        raise _too_large(where, most_bytes)
    return found


async def on_thread(where: str, data: bytes, encoding: str, most_bytes: int) -> bytes:
    """What was packed, however long. Raises RequestError, TooLarge."""
    found = await asyncio.to_thread(inflated, where, data, encoding, most_bytes)
    if found is None:
        raise _too_large(where, most_bytes)
    return found


class Room:
    """Where the long bodies of one sender are inflated; it counts what is not answered yet.

    A body of a few kilobytes may be one of many megabytes, so that the connections that may be open bound nothing.
    """

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(LONG_MOST)
        self.held_bytes = 0

    async def take(self, where: str, data: bytes, encoding: str, most_bytes: int) -> bytes:
        """What was packed, which counts until it is given back. Raises RequestError, TooLarge, Overloaded."""
        async with self.turns:
            found = await on_thread(where, data, encoding, most_bytes)
        if self.held_bytes and self.held_bytes + len(found) > HELD_BYTES:
            message = f"came packed, and those that wait have {self.held_bytes} bytes when they are inflated"
            raise Overloaded(where, message, "Try again in a second.", 1.0)
        self.held_bytes += len(found)
        return found

    def give_back(self, size_bytes: int) -> None:
        """So many bytes are answered."""
        self.held_bytes -= size_bytes


def _too_large(where: str, most_bytes: int) -> TooLarge:
    message = f"has more than {most_bytes} bytes when it is inflated, which is the limit"
    return TooLarge(where, message, "Send fewer rows at a time.")
