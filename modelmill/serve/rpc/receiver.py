"""What one client says: frames however they are cut, calls that begin, data for them, and wider windows.

Frames that bring nothing (resets, pings, settings, empty data) are counted against the calls that were answered, and
too many end the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modelmill.errors import MillError, Overloaded
from modelmill.serve.rpc.call import Heads, Stream
from modelmill.serve.rpc.frames import (
    ACK,
    CALM,
    CONNECTION_WINDOW,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    FRAME_MOST,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH,
    REFUSED_STREAM,
    RESET,
    SETTING,
    SETTINGS,
    STREAM_CLOSED,
    STREAM_WINDOW,
    STREAMS_MOST,
    WINDOW,
    WINDOW_MOST,
    WITH_PRIORITY,
    Broken,
    unpack_head,
    unpadded,
)
from modelmill.serve.rpc.messages import announced, too_large
from modelmill.serve.rpc.runner import Runner
from modelmill.serve.rpc.sender import NOT_GRPC, WARNING, Sender
from modelmill.serve.rpc.status import status

BLOCK_BYTES = 16_384
"""The most that the headers of a call may be, packed."""


HELD_BYTES = 1 << 28
"""The most that messages may have together which one client has begun and not ended."""


class Receiver:
    """Reads what one client says, and begins its calls; it lives as long as the connection."""

    def __init__(self, runner: Runner, sender: Sender, loop: asyncio.AbstractEventLoop) -> None:
        self.runner = runner
        self.sender = sender
        self.loop = loop
        self.streams = sender.streams
        self.streaming = runner.methods.streaming
        self.heads = Heads()
        self.rest = b""
        self.greeted = False
        self.allowed = CONNECTION_WINDOW
        self.block: tuple[int, int, bytearray] | None = None
        self.handlers: dict[int, Callable[[int, int, bytes], None]] = {
            DATA: self._data,
            HEADERS: self._headers,
            PRIORITY: self._priority,
            RESET: self._reset,
            SETTINGS: self._settings,
            PUSH: self._push,
            PING: self._ping,
            GOAWAY: self._goaway,
            WINDOW: self._window,
            CONTINUATION: self._continuation,
        }

    def take(self, data: bytes) -> None:
        """Take the frames in what came, and keep the rest. Raises Broken, hpack.Malformed."""
        if self.rest:
            data = self.rest + data
            self.rest = b""
        at, end = 0, len(data)
        if not self.greeted:
            if end < len(PREFACE) and PREFACE.startswith(data):
                self.rest = data
                return
            if not data.startswith(PREFACE):
                raise Broken(PROTOCOL_ERROR, "this port speaks gRPC, which is HTTP/2")
            self.greeted = True
            at = len(PREFACE)
        handlers, transport = self.handlers, self.sender.transport
        while end - at >= 9:
            high, low, kind, flags, stream = unpack_head(data, at)
            size = high << 8 | low
            if size > FRAME_BYTES:
                raise Broken(FRAME_SIZE_ERROR, "the frame is too large")
            stop = at + 9 + size
            if stop > end:
                break
            if self.block is not None and kind != CONTINUATION:
                raise Broken(PROTOCOL_ERROR, "the headers are not at their end")
            handler = handlers.get(kind)
            if handler is not None:
                handler(flags, stream & 0x7FFF_FFFF, data[at + 9 : stop])
            at = stop
            if transport.is_closing():
                return
        self.rest = data[at:]

    # Calls.

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise Broken(FRAME_SIZE_ERROR, "the priority is cut off")
            payload = payload[5:]
        if not number & 1:
            raise Broken(PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & END_HEADERS:
            self._open(number, flags, payload)
        else:
            self.block = (number, flags, bytearray(payload))

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self.block is None or self.block[0] != number:
            raise Broken(PROTOCOL_ERROR, "no headers are to be continued")
        _, begun, block = self.block
        block += payload
        if len(block) > BLOCK_BYTES:
            raise Broken(CALM, "the headers are too large")
        if not payload:
            self.sender.tolerate()
        if flags & END_HEADERS:
            self.block = None
            self._open(number, begun, bytes(block))

    def _open(self, number: int, flags: int, block: bytes) -> None:
        """Begin a call, or end what the client says in one by trailers."""
        call = self.heads.kept.get(block)
        if call is None:
            call = self.heads.read(block)
        stream = self.streams.get(number)
        if stream is not None:
            if not flags & END_STREAM or stream.ended:
                raise Broken(PROTOCOL_ERROR, "the trailers do not end the stream")
            self._data(END_STREAM, number, b"")
            return
        sender = self.sender
        if number <= sender.last:
            if sender.leaving:
                return
            raise Broken(STREAM_CLOSED, "the stream is closed")
        sender.last = number
        parting = self.runner.state.parting and call.path in self.streaming
        if sender.leaving or parting or len(self.streams) >= STREAMS_MOST:
            sender.put(RESET, 0, number, REFUSED_STREAM.to_bytes(4, "big"))
            sender.tolerate()
            return
        stream = Stream(number, call, sender.stream_window)
        self.streams[number] = stream
        if not call.is_grpc:
            sender.put(HEADERS, END_HEADERS | END_STREAM, number, NOT_GRPC)
            sender.close(stream)
            return
        if call.path in self.streaming:
            self.runner.begin(stream)
        stream.touched = self.loop.time()
        if flags & END_STREAM:
            self._data(END_STREAM, number, b"")

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self.allowed -= size
        if self.allowed < 0:
            raise Broken(FLOW_CONTROL_ERROR, "more data than the window allows")
        if self.allowed < CONNECTION_WINDOW // 2:
            self.sender.put(WINDOW, 0, 0, (CONNECTION_WINDOW - self.allowed).to_bytes(4, "big"))
            self.allowed = CONNECTION_WINDOW
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            if not 0 < number <= self.sender.last or not number & 1:
                raise Broken(PROTOCOL_ERROR, "data for a stream that was never opened")
            self.sender.tolerate()
            return
        stream.allowed -= size
        if stream.allowed < 0:
            raise Broken(FLOW_CONTROL_ERROR, "more data than the window allows")
        if flags & PADDED:
            payload = unpadded(payload)
        if not payload and not flags & END_STREAM:
            self.sender.tolerate()
        if stream.messages is None and flags & END_STREAM and not stream.body:
            stream.ended = True
            self.runner.whole(stream, payload)
            return
        stream.body += payload
        stream.touched = self.loop.time()
        stream.ended = bool(flags & END_STREAM)
        if stream.messages is not None:
            self.runner.feed(stream)
        elif stream.ended:
            self.runner.whole(stream, stream.body)
        if not stream.ended and not self._may_go_on(stream):
            return
        if stream.allowed < STREAM_WINDOW // 2 and not stream.ended and stream.is_hungry():
            self.sender.credit(stream)

    def _may_go_on(self, stream: Stream) -> bool:
        """Whether more of a message should come: of whoever may send it, as large as they may. Else the call ends."""
        try:
            most = self.runner.most_bytes(stream)
            size = max(len(stream.body) - 5, announced(stream.body))
            if size > most:
                raise too_large(size, most)
            if stream.allowed < STREAM_WINDOW // 2 and sum(len(one.body) for one in self.streams.values()) > HELD_BYTES:
                raise Overloaded("connection", f"holds {HELD_BYTES} bytes of messages that are not whole", "", 1.0)
        except MillError as error:
            self.sender.fail(stream, status(error))
            return False
        return True

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE_ERROR, "a reset has four bytes")
        if not 0 < number <= self.sender.last:
            raise Broken(PROTOCOL_ERROR, "a stream that was never opened is reset")
        self.sender.tolerate()
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.give_up()

    # The connection.

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % 6 or (flags & ACK and payload):
            raise Broken(FRAME_SIZE_ERROR, "the settings are cut off")
        if flags & ACK:
            return
        sender = self.sender
        sender.tolerate()
        for key, value in SETTING.iter_unpack(payload):
            if key == INITIAL_WINDOW:
                if value > WINDOW_MOST:
                    raise Broken(FLOW_CONTROL_ERROR, "the window is too large")
                for stream in self.streams.values():
                    stream.window += value - sender.stream_window
                sender.stream_window = value
            elif key == FRAME_MOST:
                if not FRAME_BYTES <= value < 1 << 24:
                    raise Broken(PROTOCOL_ERROR, "frames of that size are not allowed")
                sender.frame_bytes = value
        sender.put(SETTINGS, ACK, 0, b"")
        sender.send_on()

    def _window(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE_ERROR, "a window has four bytes")
        more = int.from_bytes(payload, "big") & 0x7FFF_FFFF
        if not more:
            raise Broken(PROTOCOL_ERROR, "a window that grows by nothing")
        sender = self.sender
        if number == 0:
            sender.window += more
            if sender.window > WINDOW_MOST:
                raise Broken(FLOW_CONTROL_ERROR, "the window is too large")
            sender.send_on()
            return
        if number > sender.last:
            raise Broken(PROTOCOL_ERROR, "the window of a stream that was never opened")
        stream = self.streams.get(number)
        if stream is None:
            return
        stream.window += more
        if stream.window > WINDOW_MOST:
            raise Broken(FLOW_CONTROL_ERROR, "the window is too large")
        sender.send(stream)

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Broken(FRAME_SIZE_ERROR, "a ping has eight bytes")
        if number:
            raise Broken(PROTOCOL_ERROR, "a ping is of the connection")
        sender = self.sender
        if not flags & ACK:
            sender.tolerate()
            sender.put(PING, ACK, 0, payload)
        elif sender.warned and payload == WARNING and not sender.leaving:
            sender.go_away()

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        self.sender.leaving = True
        if not self.streams:
            self.sender.transport.close()

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise Broken(FRAME_SIZE_ERROR, "a priority has five bytes")
        self.sender.tolerate()

    def _push(self, flags: int, number: int, payload: bytes) -> None:
        raise Broken(PROTOCOL_ERROR, "a client does not push")
