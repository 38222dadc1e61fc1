"""A ModelInferRequest, taken apart as far as is needed to know whose it is.

That is done on the loop, field by field, so that a message has only so many: one of two bytes costs as much time as one
of a megabyte.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelmill.errors import RequestError
from modelmill.protocol.schema import LENGTH, VARINT, WIDTHS, crowded, read_varint, text

NAME, VERSION, ID, RAW = 1, 2, 3, 7
"""Numbers of the fields that differ from request to request, or say whose it is."""

FIELDS_MOST = 20_000
"""Fields of a request, those within them not counted: every input is one, and so is its raw tensor."""
UNKNOWN_MOST = 1000
"""Fields of a request that the protocol does not have, as those of a newer one may be."""
NAME_BYTES = 1024
"""The longest name of a model, and of a version."""


@dataclass(slots=True)
class Envelope:
    """A request, taken apart as far as is needed to know whose it is."""

    name: str
    version: str
    id: bytes
    head: bytes
    """The message without its id and its raw tensors, which is a message too."""
    raw: list[memoryview]


def addressed(message: bytes) -> tuple[str, str]:
    """The name of the model and the version, which writers put first; empty where they are elsewhere.

    For whoever is refused at once: it costs the same whatever else is in the message. Raises RequestError.
    """
    found = {NAME: "", VERSION: ""}
    view, at = memoryview(message), 0
    for number in found:
        if at == len(message):
            break
        tag, begin = read_varint(view, at)
        if tag != number << 3 | LENGTH:
            continue
        size, begin = read_varint(view, begin)
        at = begin + size
        if size <= NAME_BYTES:
            found[number] = text("model_name" if number == NAME else "model_version", view[begin:at])
    return found[NAME], found[VERSION]


def opened(message: bytes) -> Envelope:
    """A request, taken apart. Raises RequestError for bytes that are no message, or of more fields than one has."""
    view = memoryview(message)
    name = version = identity = view[:0]
    raw: list[memoryview] = []
    kept: list[memoryview] = []
    start = at = unknown = 0
    end = len(message)
    for _ in range(FIELDS_MOST + 1):
        if at == end:
            break
        begin = at
        tag = message[at]
        size = message[at + 1] if at + 1 < end else 0x80
        if tag & 0x87 == LENGTH and size < 0x80:
            at += 2
        else:
            tag, at = read_varint(message, at)
            if tag & 7 != LENGTH:
                at = _passed(message, tag, at)
                unknown = _one_more(unknown)
                continue
            size, at = read_varint(message, at)
        stop = at + size
        if stop > end:
            raise RequestError("message", f"cannot be read: a field says {size} bytes, {end - at} are left", "")
        number = tag >> 3
        if number in (RAW, ID):
            if begin > start:
                kept.append(view[start:begin])
            start = stop
            if number == RAW:
                raw.append(view[at:stop])
            else:
                identity = view[at:stop]
        elif number == NAME:
            name = view[at:stop]
        elif number == VERSION:
            version = view[at:stop]
        elif number > RAW:
            unknown = _one_more(unknown)
        at = stop
    else:
        raise crowded(f"more than {FIELDS_MOST:,} fields", f"{FIELDS_MOST:,}")
    head = message
    if start:
        if end > start:
            kept.append(view[start:end])
        head = bytes(kept[0]) if len(kept) == 1 else b"".join(kept)
    text("id", identity)
    return Envelope(_short("model_name", name), _short("model_version", version), bytes(identity), head, raw)


def _passed(message: bytes, tag: int, at: int) -> int:
    """Where a field ends that is none of a request's. Raises RequestError where it is broken."""
    end = read_varint(message, at)[1] if tag & 7 == VARINT else at + WIDTHS.get(tag & 7, len(message))
    if tag < 8 or end > len(message):
        raise RequestError("message", f"cannot be read: field {tag >> 3} of the wire type {tag & 7} is broken", "")
    return end


def _one_more(unknown: int) -> int:
    """One more of the fields that are none of a request's. Raises RequestError for one too many."""
    if unknown == UNKNOWN_MOST:
        raise crowded(f"more than {UNKNOWN_MOST:,} fields that it does not have", f"{UNKNOWN_MOST:,}")
    return unknown + 1


def _short(where: str, name: memoryview) -> str:
    """A name as text. Raises RequestError where it is longer than any."""
    if len(name) > NAME_BYTES:
        raise RequestError(where, f"has {len(name)} bytes, expected {NAME_BYTES} at most", "Is it a name?")
    return text(where, name)
