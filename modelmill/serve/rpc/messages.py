"""Messages of gRPC: five bytes that say how one is packed and how large it is, and the message."""

from __future__ import annotations

from modelmill.errors import RequestError, TooLarge
from modelmill.serve.packed import ENCODINGS
from modelmill.serve.rpc.status import Unimplemented

ACCEPTED = ",".join(("identity", *ENCODINGS))
"""How a message may be packed, as the header of an answer says it."""


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


def check_encoding(packed: int, encoding: str) -> None:
    """Refuse a packed message of which it is not said in a known way how it is. Raises Unpacked."""
    if packed != 1:
        raise Unpacked("message", f"is packed in the way {packed}, expected 0 or 1", "Is it a message of gRPC?")
    if encoding not in ENCODINGS:
        raise Unpacked("message", f"is packed as {encoding[:40] or 'nothing'}", f"Use {ACCEPTED}.")


def too_large(size_bytes: int, most_bytes: int) -> TooLarge:
    """The error for a message that has so many bytes, or more."""
    message = f"has {size_bytes} bytes or more, the limit is {most_bytes}"
    return TooLarge("message", message, "Send fewer rows at a time.")
