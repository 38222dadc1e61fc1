"""Frames of HTTP/2, RFC 9113: kinds, flags, codes of errors, and how much of them a connection takes."""

from __future__ import annotations

from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, COMPRESSION_ERROR, CALM = 7, 9, 11

HEAD = Struct(">HBBBI")
"""Nine bytes before every frame: the length in 16 bits and 8, kind, flags, stream."""
pack_head, unpack_head = HEAD.pack, HEAD.unpack_from
"""Bound once: a method of an imported value is bound anew whenever it is called, which every frame would pay."""
SETTING = Struct(">HI")
STREAMS, INITIAL_WINDOW, FRAME_MOST, HEADERS_MOST = 3, 4, 5, 6

FRAME_BYTES = 16_384
"""The largest frame that is taken; the protocol's default."""
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 24
DEFAULT_WINDOW = 65_535
WINDOW_MOST = (1 << 31) - 1
STREAMS_MOST = 256
"""Calls that one connection may have at a time."""


class Broken(Exception):
    """The client breaks the protocol, and the connection ends with this code."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


def unpadded(payload: bytes) -> bytes:
    """What a padded frame brings. Raises Broken.

    >>> unpadded(b"\\x02data..")
    b'data'
    """
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR, "there is more padding than data")
    return payload[1 : len(payload) - payload[0]]
