"""Headers as HTTP/2 packs them: what a client sends is unpacked, and what is answered needs no packing.

RFC 7541. The table of a connection changes with what is read, so that every block has to be read, in order.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache

Header = tuple[bytes, bytes]

TABLE_BYTES = 4096
"""The size of the table of headers that a client may fill."""
ENTRY_BYTES = 32
"""What an entry counts beside its name and value."""
SHORT = 128
"""Bytes of codes that are remembered with their texts."""
LIST_BYTES = 32_768
"""The most that the headers of one request may be, unpacked."""

NAMES = (
    ":authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 :status=204 "
    ":status=206 :status=304 :status=400 :status=404 :status=500 accept-charset accept-encoding=gzip,|deflate "
    "accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
    "content-disposition content-encoding content-language content-length content-location content-range content-type "
    "cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since "
    "last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after "
    "server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate"
)
"""The headers that every connection knows, in their order (appendix A); a bar is a space."""

PAIRS = [word.replace("|", " ").encode().partition(b"=") for word in NAMES.split()]
STATIC: tuple[Header, ...] = tuple((name, value) for name, _, value in PAIRS)

LENGTHS = {
    5: "0 1 2 a c e i o s t",
    6: "SPACE % - . / 3 4 5 6 7 8 9 = A _ b d f g h l m n p r u",
    7: ": B C D E F G H I J K L M N O P Q R S T U V W Y j k q v w x y z",
    8: "& * , ; X Z",
    10: '! " ( ) ?',
    11: "' + |",
    12: "# >",
    13: "x00 $ @ [ ] ~",
    14: "^ }",
    15: "< ` {",
    19: "\\ xc3 xd0",
    20: "x80 x82 x83 xa2 xb8 xc2 xe0 xe2",
    21: "x99 xa1 xa7 xac xb0 xb1 xb3 xd1 xd8 xd9 xe3 xe5 xe6",
    22: "x81 x84 x85 x86 x88 x92 x9a x9c xa0 xa3 xa4 xa9 xaa xad xb2 xb5 xb9 xba xbb xbd xbe xc4 xc6 xe4 xe8 xe9",
    23: "x01 x87 x89 x8a x8b x8c x8d x8f x93 x95 x96 x97 x98 x9b x9d x9e xa5 xa6 xa8 xae xaf xb4 xb6 xb7 xbc xbf xc5 "
    "xe7 xef",
    24: "x09 x8e x90 x91 x94 x9f xab xce xd7 xe1 xec xed",
    25: "xc7 xcf xea xeb",
    26: "xc0 xc1 xc8 xc9 xca xcd xd2 xd5 xda xdb xee xf0 xf2 xf3 xff",
    27: "xcb xcc xd3 xd4 xd6 xdd xde xdf xf1 xf4 xf5 xf6 xf7 xf8 xfa xfb xfc xfd xfe",
    28: "x02 x03 x04 x05 x06 x07 x08 x0b x0c x0e x0f x10 x11 x12 x13 x14 x15 x17 x18 x19 x1a x1b x1c x1d x1e x1f x7f "
    "xdc xf9",
    30: "x0a x0d x16",
}
"""Bits of the code of every byte (appendix B); the codes follow from them, as they count upwards."""


class Malformed(Exception):
    """The block cannot be read, and the connection cannot go on."""


def _codes() -> dict[tuple[int, int], int]:
    """Bits and code: the byte they stand for."""
    found: dict[tuple[int, int], int] = {}
    code = before = 0
    for bits, listed in LENGTHS.items():
        for word in listed.split():
            code <<= bits - before
            before = bits
            found[bits, code] = 32 if word == "SPACE" else int(word[1:], 16) if len(word) == 3 else ord(word)
            code += 1
    return found


CODES = _codes()


def unhuffed(data: bytes) -> bytes:
    """The text behind a Huffman code. Raises Malformed.

    >>> unhuffed(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff"))
    b'www.example.com'
    """
    found = bytearray()
    code = bits = 0
    for byte in data:
        for place in range(7, -1, -1):
            code = code << 1 | byte >> place & 1
            bits += 1
            if (symbol := CODES.get((bits, code))) is not None:
                found.append(symbol)
                code = bits = 0
    if bits > 7 or code != (1 << bits) - 1:
        raise Malformed("a Huffman code is cut off")
    return bytes(found)


_short = lru_cache(1024)(unhuffed)


class Unpacker:
    """The table of one connection; it changes with the blocks that are read.

    `changes` counts the blocks that changed it: between two changes, equal blocks have equal headers.
    """

    def __init__(self) -> None:
        self.table: deque[Header] = deque()
        self.size = 0
        self.most = TABLE_BYTES
        self.changes = 0

    def read(self, block: bytes) -> list[Header]:
        """The headers of a block. Raises Malformed."""
        headers: list[Header] = []
        at = total = 0
        changed = False
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = number(block, at, 7)
                header = self._at(index)
            elif first & 0xE0 == 0x20:
                if headers:
                    raise Malformed("the table is resized amid headers")
                size, at = number(block, at, 5)
                self._resize(size)
                changed = True
                continue
            else:
                kept = first & 0x40
                index, at = number(block, at, 6 if kept else 4)
                name, at = (self._at(index)[0], at) if index else text(block, at)
                value, at = text(block, at)
                header = (name, value)
                if kept:
                    self._add(header)
                    changed = True
            headers.append(header)
            total += len(header[0]) + len(header[1]) + ENTRY_BYTES
            if total > LIST_BYTES:
                raise Malformed("the headers are too large")
        self.changes += changed
        return headers

    def _at(self, index: int) -> Header:
        if 0 < index <= len(STATIC):
            return STATIC[index - 1]
        place = index - len(STATIC) - 1
        if 0 <= place < len(self.table):
            return self.table[place]
        raise Malformed("a header is named that is not in the table")

    def _add(self, header: Header) -> None:
        self.table.appendleft(header)
        self.size += len(header[0]) + len(header[1]) + ENTRY_BYTES
        self._shrink()

    def _resize(self, size: int) -> None:
        if size > TABLE_BYTES:
            raise Malformed("the table would be too large")
        self.most = size
        self._shrink()

    def _shrink(self) -> None:
        while self.size > self.most:
            name, value = self.table.pop()
            self.size -= len(name) + len(value) + ENTRY_BYTES


def number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number whose first bits are the last ones of a byte, and the place after it. Raises Malformed.

    >>> number(bytes([31, 154, 10]), 0, 5)
    (1337, 3)
    """
    most = (1 << bits) - 1
    found = block[at] & most
    at += 1
    if found < most:
        return found, at
    for shift in range(0, 28, 7):
        if at >= len(block):
            raise Malformed("a number is cut off")
        byte = block[at]
        at += 1
        found += (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
    raise Malformed("a number is too large")


def text(block: bytes, at: int) -> tuple[bytes, int]:
    """A string, and the place after it. Raises Malformed."""
    if at >= len(block):
        raise Malformed("a string is cut off")
    huffman = block[at] & 0x80
    size, at = number(block, at, 7)
    data = block[at : at + size]
    if len(data) < size:
        raise Malformed("a string is cut off")
    if not huffman:
        return data, at + size
    return _short(data) if size <= SHORT else unhuffed(data), at + size


def literal(name: bytes, value: bytes) -> bytes:
    """A header as it goes out: as it is, and kept in no table.

    >>> literal(b"a", b"bc")
    b'\\x00\\x01a\\x02bc'
    """
    return b"\x00" + _sized(name) + _sized(value)


def _sized(data: bytes) -> bytes:
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    rest = size - 127
    found = bytearray((127,))
    while rest >= 128:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found) + data
