"""A connection of HTTP/2 as a protocol of the loop: a small call is answered where it is read."""

from __future__ import annotations

import asyncio
from typing import Any

from modelmill.errors import Draining, RequestError
from modelmill.serve.rpc import hpack
from modelmill.serve.rpc.frames import (
    COMPRESSION_ERROR,
    CONNECTION_WINDOW,
    DEFAULT_WINDOW,
    HEADERS_MOST,
    INITIAL_WINDOW,
    PROTOCOL_ERROR,
    SETTING,
    SETTINGS,
    STREAM_WINDOW,
    STREAMS,
    STREAMS_MOST,
    WINDOW,
    Broken,
)
from modelmill.serve.rpc.receiver import Receiver
from modelmill.serve.rpc.runner import Offer, Runner
from modelmill.serve.rpc.sender import Sender
from modelmill.serve.rpc.status import DEADLINE_EXCEEDED, Status, status

GREETING_SECONDS = 10.0
"""How long a connection may be silent before it says that it speaks HTTP/2."""
MESSAGE_SECONDS = 30.0
"""How long a client may take between two pieces of a message."""


UNREAD_LOOKS = 3
"""After so many looks at which a client had taken nothing of what waits for it, that is let go of."""


class Connection(asyncio.Protocol):
    """One client: its frames in, ours out. It is among the open connections for as long as it lives."""

    def __init__(self, offer: Offer, connections: set[Connection], loop: asyncio.AbstractEventLoop) -> None:
        self.connections = connections
        self.loop = loop
        self.sender = Sender(offer.methods.standing)
        self.runner = Runner(offer, self.sender, loop)
        self.receiver = Receiver(self.runner, self.sender, loop)
        self.transport: Any = None
        self.watch: asyncio.TimerHandle | None = None
        self.unread = 0
        self.unread_looks = 0

    def connection_made(self, transport: Any) -> None:
        """Say what is taken."""
        self.transport = self.sender.transport = transport
        self.runner.address = (transport.get_extra_info("peername") or ("",))[0]
        self.connections.add(self)
        settings = ((STREAMS, STREAMS_MOST), (INITIAL_WINDOW, STREAM_WINDOW), (HEADERS_MOST, hpack.LIST_BYTES))
        self.sender.put(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in settings))
        self.sender.put(WINDOW, 0, 0, (CONNECTION_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big"))
        self.sender.flush()
        self.watch = self.loop.call_later(GREETING_SECONDS, self._look)

    def data_received(self, data: bytes) -> None:
        """Take the frames in what came, and answer what can be answered at once."""
        try:
            self.receiver.take(data)
        except Broken as error:
            self.sender.end(error.code, str(error))
        except hpack.Malformed as error:
            self.sender.end(COMPRESSION_ERROR, str(error))
        self.sender.flush()

    def pause_writing(self) -> None:
        """Read no more from a client that does not read."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Give up what the client will not hear."""
        self.connections.discard(self)
        if self.watch is not None:
            self.watch.cancel()
        for stream in tuple(self.sender.streams.values()):
            stream.give_up()
        self.sender.streams.clear()

    @property
    def is_streaming(self) -> bool:
        """Whether a call of many messages has not ended."""
        return any(stream.messages is not None for stream in self.sender.streams.values())

    def warn(self) -> None:
        """Ask for no further calls, as Sender.warn does."""
        self.sender.warn()

    def part(self) -> None:
        """Have the calls of many messages end, as Runner.part does."""
        self.sender.warn()
        for stream in tuple(self.sender.streams.values()):
            self.runner.part(stream)

    def leave(self) -> None:
        """Take no further calls, whether or not the client has read that; close when the present ones are answered."""
        if not self.sender.leaving:
            self.sender.go_away()
            self.sender.flush()

    def cut(self) -> None:
        """Answer what is in flight with a status that says that the service is gone, and close."""
        late = Draining("service", "has ended before the answer", "Send the request to another instance.")
        for stream in tuple(self.sender.streams.values()):
            self.sender.fail(stream, status(late))
        self.leave()
        self.sender.flush()
        self.transport.close()

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    def _look(self) -> None:
        """Now and then: end what a client has begun and does not go on with."""
        now = self.loop.time()
        self.watch = self.loop.call_later(GREETING_SECONDS, self._look)
        if not self.receiver.greeted:
            self.sender.end(PROTOCOL_ERROR, "nothing came")
            return
        self.unread, self.unread_looks = stood(self.transport.get_write_buffer_size(), self.unread, self.unread_looks)
        if self.unread_looks >= UNREAD_LOOKS:
            self.transport.abort()
            return
        for stream in tuple(self.sender.streams.values()):
            stream.unread, stream.unread_looks = stood(len(stream.pending), stream.unread, stream.unread_looks)
            if stream.unread_looks >= UNREAD_LOOKS:
                self.sender.fail(stream, Status(DEADLINE_EXCEEDED, f"{stream.unread} bytes were not taken in time"))
                continue
            partial = stream.messages is None or stream.body
            if partial and not stream.ended and stream.task is None and now - stream.touched > MESSAGE_SECONDS:
                error = RequestError("message", f"nothing came for {MESSAGE_SECONDS:g} seconds", "")
                self.sender.fail(stream, status(error))
        self.sender.flush()


def stood(unread: int, before: int, looks: int) -> tuple[int, int]:
    """What waits now for a client, and at how many looks it has been no less.

    >>> stood(9, 9, 1), stood(8, 9, 1), stood(0, 9, 1)
    ((9, 2), (8, 0), (0, 0))
    """
    return unread, looks + 1 if unread and before and unread >= before else 0
