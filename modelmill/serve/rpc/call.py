"""A call, and one on its way: what its headers say, and what came and went of it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

from modelmill.errors import MillError
from modelmill.serve.rpc import hpack
from modelmill.serve.rpc.frames import STREAM_WINDOW

HEADS_KEPT = 256
UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@dataclass(frozen=True, slots=True)
class Call:
    """What the headers of a call say."""

    path: str
    metadata: dict[str, str]
    timeout_s: float
    encoding: str
    is_grpc: bool


@dataclass(slots=True, eq=False)
class Stream:
    """One call on its way; it lives until both sides have ended it."""

    id: int
    call: Call
    window: int
    """What may still be sent."""
    body: bytearray = field(default_factory=bytearray)
    """What came of the message that is being read."""
    allowed: int = STREAM_WINDOW
    """What may still come."""
    most: int = -1
    """The most bytes that a message of it may have; -1 as long as nobody asked."""
    ended: bool = False
    """Whether the client has said everything."""
    shut: bool = False
    """Whether no message is taken any more."""
    begun: bool = False
    """Whether the headers of the answer are out."""
    touched: float = 0.0
    task: asyncio.Future[Any] | None = None
    messages: asyncio.Queue[tuple[int, bytes] | MillError | None] | None = None
    """Those that wait to be answered, as they came: whether one is packed, and its bytes. At the end there is None, or
    the error that ends the call when those before it are answered."""
    pending: bytearray = field(default_factory=bytearray)
    """What of the answer waits for the client's window."""
    trailers: bytes | None = None
    sent: asyncio.Event | None = None
    unread: int = 0
    """Bytes of the answer that the client's window had no room for at the last look."""
    unread_looks: int = 0
    """How many looks ago that was more."""
    version: tuple[str, str] = ("", "")
    """The model and the number of the version that answers, as far as they are known."""

    def is_of(self, name: str, number: str) -> None:
        """Keep which version answers, which is told where the call fails."""
        self.version = name, number

    def is_hungry(self) -> bool:
        """Whether more of it should come: its messages are taken as fast as they come, or one is not whole."""
        return self.messages is None or self.messages.empty()

    def give_up(self) -> None:
        """Cancel what is done for a call that nobody waits for."""
        if self.task is not None:
            self.task.cancel()


class Heads:
    """Reads the headers of one connection, where they were not read before; it lives as long as the connection."""

    def __init__(self) -> None:
        self.unpacker = hpack.Unpacker()
        self.changes = 0
        self.kept: dict[bytes, Call] = {}

    def read(self, block: bytes) -> Call:
        """The call in a block that is not among the kept ones. Raises hpack.Malformed."""
        headers = self.unpacker.read(block)
        call = _call(headers)
        if self.unpacker.changes != self.changes:
            self.changes = self.unpacker.changes
            self.kept.clear()
        elif len(self.kept) < HEADS_KEPT:
            self.kept[block] = call
        return call


def _call(headers: list[hpack.Header]) -> Call:
    """What headers say; for trailers, nothing that is used."""
    found: dict[str, str] = {}
    for name, value in headers:
        if not name.endswith(b"-bin"):
            key, text = name.decode("latin-1"), value.decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
    pseudo = {name: found.pop(name, "") for name in (":method", ":path", ":scheme", ":authority")}
    is_grpc = pseudo[":method"] == "POST" and found.get("content-type", "").startswith("application/grpc")
    timeout_s = _seconds(found.pop("grpc-timeout", ""))
    return Call(pseudo[":path"], found, timeout_s, found.pop("grpc-encoding", ""), is_grpc)


def _seconds(timeout: str) -> float:
    """Seconds of a grpc-timeout; forever where there is none that can be read.

    >>> _seconds("250m"), _seconds("")
    (0.25, inf)
    """
    amount, unit = timeout[:-1], timeout[-1:]
    if unit not in UNITS or not (amount.isascii() and amount.isdigit()) or len(amount) > 8:
        return math.inf
    return int(amount) * UNITS[unit]
