"""What goes out to one client: answers as far as its windows allow, and the end of the connection."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from modelmill.serve import standing
from modelmill.serve.rpc import hpack
from modelmill.serve.rpc.call import Stream
from modelmill.serve.rpc.frames import (
    CALM,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PING,
    RESET,
    STREAM_WINDOW,
    WINDOW,
    WINDOW_MOST,
    Broken,
    pack_head,
)
from modelmill.serve.rpc.messages import ACCEPTED, framed
from modelmill.serve.rpc.status import UNIMPLEMENTED, Status

FIRST = b"\x88" + hpack.literal(b"content-type", b"application/grpc")
"""The headers of an answer: status 200."""
LAST = hpack.literal(b"grpc-status", b"0")
"""The trailers of an answer that went well, before those that tell of a quota."""
NOT_GRPC = hpack.literal(b":status", b"415")
NOISE_MOST = 2_000
"""Frames that bring nothing, less the calls that were answered, after which a connection ends."""
WARNING = b"farewell"
"""What is in the ping that follows a warning."""


Standing = Callable[[str, Mapping[str, str]], Sequence[tuple[str, str]]]
"""Of a call's path and metadata."""


class Sender:
    """Sends to one client, and forgets the calls that are answered; it lives as long as the connection.

    standing: what the end of a call tells of its caller's quota, as trailing metadata.
    """

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.transport: Any = None
        self.out: list[bytes] = []
        self.streams: dict[int, Stream] = {}
        self.last = 0
        """The newest stream."""
        self.window = DEFAULT_WINDOW
        self.stream_window = DEFAULT_WINDOW
        self.frame_bytes = FRAME_BYTES
        self.noise = 0
        self.leaving = False
        self.warned = False

    def put(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Send a frame with the next flush."""
        size = len(payload)
        self.out.append(pack_head(size >> 8, size & 0xFF, kind, flags, number) + payload)

    def flush(self) -> None:
        """Send what was put."""
        if self.out and self.transport is not None:
            out, self.out = self.out, []
            if not self.transport.is_closing():
                self.transport.write(b"".join(out))

    # Answers.

    def answer(self, stream: Stream, message: bytes) -> None:
        """The whole answer of a call that went well."""
        if stream.id not in self.streams:
            return
        size, last = len(message) + 5, self._last(stream)
        if size <= self.frame_bytes and size <= stream.window and size <= self.window and not stream.begun:
            self.window -= size
            number = stream.id
            self.out += (
                pack_head(0, len(FIRST), HEADERS, END_HEADERS, number),
                FIRST,
                pack_head(size >> 8, size & 0xFF, DATA, 0, number),
                b"\x00" + (size - 5).to_bytes(4, "big"),
                message,
                pack_head(0, len(last), HEADERS, END_HEADERS | END_STREAM, number),
                last,
            )
            self.close(stream)
            return
        self.add(stream, message)
        self.finish(stream)

    def add(self, stream: Stream, message: bytes) -> None:
        """One message of an answer that has further ones."""
        self._begin(stream)
        stream.pending += framed(message)
        self.send(stream)

    def finish(self, stream: Stream) -> None:
        """The end of an answer that went well."""
        self._begin(stream)
        stream.trailers = self._last(stream)
        self.send(stream)

    def _last(self, stream: Stream) -> bytes:
        """The trailers of an answer that went well."""
        told = self.standing(stream.call.path, stream.call.metadata)
        return LAST + _literals(told) if told else LAST

    def _begin(self, stream: Stream) -> None:
        if not stream.begun and stream.id in self.streams:
            stream.begun = True
            self.put(HEADERS, END_HEADERS, stream.id, FIRST)

    def fail(self, stream: Stream, failed: Status) -> None:
        """End a call with what went wrong; what was not sent yet is not sent any more."""
        if stream.id not in self.streams:
            return
        words = quote(failed.message[:4000], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
        block = [hpack.literal(b"grpc-status", b"%d" % failed.code), hpack.literal(b"grpc-message", words)]
        if failed.code == UNIMPLEMENTED:
            block.append(hpack.literal(b"grpc-accept-encoding", ACCEPTED.encode()))
        for name, value in failed.trailers:
            text = value.encode() if isinstance(value, str) else b64encode(value).rstrip(b"=")
            block.append(hpack.literal(name.encode(), text))
        block.append(_literals(standing.version(*stream.version)))
        block.append(_literals(self.standing(stream.call.path, stream.call.metadata)))
        stream.pending.clear()
        stream.trailers = b"".join(block) if stream.begun else FIRST + b"".join(block)
        stream.begun = True
        self.send(stream)
        if stream.task is not None and stream.task is not asyncio.current_task():
            stream.task.cancel()

    def send(self, stream: Stream) -> None:
        """Send of an answer what the windows allow."""
        pending = stream.pending
        while pending:
            size = min(len(pending), self.frame_bytes, stream.window, self.window)
            if size <= 0:
                return
            stream.window -= size
            self.window -= size
            self.put(DATA, 0, stream.id, bytes(pending[:size]))
            del pending[:size]
        if stream.sent is not None:
            stream.sent.set()
        if stream.trailers is not None:
            self.put(HEADERS, END_HEADERS | END_STREAM, stream.id, stream.trailers)
            self.close(stream)

    def send_on(self) -> None:
        """Send of all answers what the windows allow now."""
        for stream in tuple(self.streams.values()):
            if stream.pending:
                self.send(stream)

    def credit(self, stream: Stream) -> None:
        """Let as much come as the window of a stream holds."""
        self.put(WINDOW, 0, stream.id, (STREAM_WINDOW - stream.allowed).to_bytes(4, "big"))
        stream.allowed = STREAM_WINDOW

    def tolerate(self) -> None:
        """Count a frame that brings nothing. Raises Broken."""
        self.noise += 1
        if self.noise > NOISE_MOST:
            raise Broken(CALM, "too many frames that bring nothing")

    # Ends.

    def close(self, stream: Stream) -> None:
        """Forget a call that was answered."""
        del self.streams[stream.id]
        if self.noise:
            self.noise -= 1
        if not stream.ended:
            self.put(RESET, 0, stream.id, NO_ERROR.to_bytes(4, "big"))
        if self.leaving and not self.streams:
            self.flush()
            self.transport.close()

    def warn(self) -> None:
        """Ask for no further calls; when the client has read that, none are taken, and it ends with the last answer."""
        if not self.warned:
            self.warned = True
            self.put(GOAWAY, 0, 0, WINDOW_MOST.to_bytes(4, "big") + NO_ERROR.to_bytes(4, "big"))
            self.put(PING, 0, 0, WARNING)
            self.flush()

    def go_away(self) -> None:
        """Take no further calls; close when the present ones are answered."""
        self.leaving = True
        self.put(GOAWAY, 0, 0, self.last.to_bytes(4, "big") + NO_ERROR.to_bytes(4, "big"))
        if not self.streams:
            self.flush()
            self.transport.close()

    def end(self, code: int, words: str) -> None:
        """Close, and say why."""
        self.leaving = True
        self.put(GOAWAY, 0, 0, self.last.to_bytes(4, "big") + code.to_bytes(4, "big") + words.encode())
        self.flush()
        self.transport.close()


def _literals(pairs: Sequence[tuple[str, str]]) -> bytes:
    return b"".join(hpack.literal(name.encode(), value.encode()) for name, value in pairs)
