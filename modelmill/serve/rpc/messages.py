"""Messages of gRPC: five bytes that say how one is packed and how large it is, and the message."""

from __future__ import annotations

import zlib

from modelmill.errors import RequestError, TooLarge
from modelmill.serve.rpc.status import Unimplemented

ENCODINGS = b"identity,deflate,gzip"


class Unpacked(Unimplemented):
    """The message is packed in a way that is not known."""


def framed(message: bytes) -> bytes:
    """A message as it goes out: not packed.

    >>> framed(b"abc")
    b'\\x00\\x00\\x00\\x00\\x03abc'
    """
    return b"\x00" + len(message).to_bytes(4, "big") + message


def announced(data: bytes | bytearray) -> int:
    """How many bytes a message has by its own word; 0 as long as that has not come whole."""
    return int.from_bytes(data[1:5], "big") if len(data) >= 5 else 0


def only(data: bytes, most_bytes: int) -> bytes:
    """The one message in the data of a call, as it came. Raises RequestError, TooLarge."""
    size = announced(data)
    if len(data) != size + 5:
        raise RequestError("message", f"says {size} bytes, the call has {max(0, len(data) - 5)}", "")
    if size > most_bytes:
        raise too_large(size, most_bytes)
    return data[5:]


def inflated(message: bytes, encoding: str, most_bytes: int) -> bytes | None:
    """A packed message as it was before; None where it has more bytes than that. Raises RequestError, Unpacked.

    >>> inflated(zlib.compress(b"abc"), "deflate", 3), inflated(zlib.compress(b"abc"), "deflate", 2)
    (b'abc', None)
    """
    bits = {"gzip": 31, "deflate": 15}.get(encoding)
    if bits is None:
        raise Unpacked("message", f"is packed as {encoding[:40] or 'nothing'}", f"Use {ENCODINGS.decode()}.")
    opener = zlib.decompressobj(bits)
    try:
        found = opener.decompress(message, most_bytes + 1)
    except zlib.error:
        raise RequestError("message", f"is no {encoding} that can be read", "") from None
    if len(found) > most_bytes:
        return None
    if not opener.eof:
        raise RequestError("message", f"is no whole {encoding}", "")
    return found


def too_large(size_bytes: int, most_bytes: int) -> TooLarge:
    """The error for a message that has so many bytes, or more."""
    message = f"has {size_bytes} bytes or more, the limit is {most_bytes}"
    return TooLarge("message", message, "Send fewer rows at a time.")
