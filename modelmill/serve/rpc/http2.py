"""gRPC on our own HTTP/2: a connection is a protocol of the loop, and a small call is answered where it is parsed.

RFC 9113, and gRPC over HTTP/2. Only what a server needs: no push, no priorities. Frames that bring nothing (resets,
pings, settings, empty data) are counted against the calls that were answered, and too many end the connection.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Protocol
from urllib.parse import quote

from modelmill.errors import MillError, RequestError, TooLarge
from modelmill.serve.rpc import hpack
from modelmill.serve.rpc.methods import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    UNIMPLEMENTED,
    Methods,
    Peer,
    Status,
    Unimplemented,
    status,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, COMPRESSION_ERROR, CALM = 7, 9, 11

HEAD = Struct(">HBBBI")
"""Nine bytes before every frame: the length in 16 bits and 8, kind, flags, stream."""
SETTING = Struct(">HI")
STREAMS, INITIAL_WINDOW, FRAME_MOST, HEADERS_MOST = 3, 4, 5, 6

FRAME_BYTES = 16_384
"""The largest frame that is taken; the protocol's default."""
BLOCK_BYTES = 16_384
"""The most that the headers of a call may be, packed."""
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 24
DEFAULT_WINDOW = 65_535
WINDOW_MOST = (1 << 31) - 1
STREAMS_MOST = 256
"""Calls that one connection may have at a time."""
NOISE_MOST = 2_000
"""Frames that bring nothing, less the calls that were answered, after which a connection ends."""
HEADS_KEPT = 256
BACKLOG = 1024
WARNING = b"farewell"
"""What is in the ping that follows a warning."""
GREETING_SECONDS = 10.0
"""How long a connection may be silent before it says that it speaks HTTP/2."""
MESSAGE_SECONDS = 30.0
"""How long a client may take between two pieces of a message."""

FIRST = b"\x88" + hpack.literal(b"content-type", b"application/grpc")
"""The headers of an answer: status 200."""
LAST = hpack.literal(b"grpc-status", b"0")
"""The trailers of an answer that went well."""
NOT_GRPC = hpack.literal(b":status", b"415")
ENCODINGS = b"identity,deflate,gzip"
UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Broken(Exception):
    """The client breaks the protocol, and the connection ends with this code."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Counter(Protocol):
    """What is told how many calls are being answered."""

    in_flight: int


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
    ended: bool = False
    """Whether the client has said everything."""
    begun: bool = False
    """Whether the headers of the answer are out."""
    touched: float = 0.0
    task: asyncio.Task[None] | None = None
    messages: asyncio.Queue[bytes | None] | None = None
    pending: bytearray = field(default_factory=bytearray)
    """What of the answer waits for the client's window."""
    trailers: bytes | None = None
    sent: asyncio.Event | None = None


class Front:
    """Serves the methods on a port of its own; it lives as long as the service."""

    def __init__(self, methods: Methods, state: Counter, body_bytes: int) -> None:
        self.methods = methods
        self.state = state
        self.body_bytes = body_bytes
        self.connections: set[Connection] = set()
        self.server: asyncio.Server | None = None

    async def start(self, listener: Any, tls: Any = None) -> None:
        """Answer on a listening socket; `tls` is an SSL context that offers h2."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self, loop), sock=listener, ssl=tls, backlog=BACKLOG)

    def warn(self) -> None:
        """Tell all clients to make their next calls elsewhere; those that cross the warning are still answered."""
        for connection in tuple(self.connections):
            connection.warn()

    async def stop(self, seconds: float) -> None:
        """Take no further calls, and end those that run for longer than so many seconds."""
        if self.server is not None:
            self.server.close()
        self.warn()
        end = asyncio.get_running_loop().time() + seconds
        while self.connections and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        for connection in tuple(self.connections):
            connection.abort()
        await asyncio.sleep(0)


class Connection(asyncio.Protocol):
    """One client: its frames in, ours out."""

    def __init__(self, front: Front, loop: asyncio.AbstractEventLoop) -> None:
        self.front = front
        self.loop = loop
        self.transport: Any = None
        self.rest = b""
        self.greeted = False
        self.unpacker = hpack.Unpacker()
        self.heads: dict[bytes, Call] = {}
        self.changes = 0
        self.streams: dict[int, Stream] = {}
        self.last = 0
        self.window = DEFAULT_WINDOW
        self.stream_window = DEFAULT_WINDOW
        self.frame_bytes = FRAME_BYTES
        self.allowed = CONNECTION_WINDOW
        self.block: tuple[int, int, bytearray] | None = None
        self.noise = 0
        self.leaving = False
        self.warned = False
        self.out: list[bytes] = []
        self.watch: asyncio.TimerHandle | None = None
        self.since = 0.0
        self.address = ""
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

    # The loop's calls.

    def connection_made(self, transport: Any) -> None:
        """Say what is taken."""
        self.transport = transport
        self.address = (transport.get_extra_info("peername") or ("",))[0]
        self.front.connections.add(self)
        settings = ((STREAMS, STREAMS_MOST), (INITIAL_WINDOW, STREAM_WINDOW), (HEADERS_MOST, hpack.LIST_BYTES))
        self._put(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in settings))
        self._put(WINDOW, 0, 0, (CONNECTION_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big"))
        self._flush()
        self.since = self.loop.time()
        self.watch = self.loop.call_later(GREETING_SECONDS, self._look)

    def connection_lost(self, error: Exception | None) -> None:
        """Give up what the client will not hear."""
        self.front.connections.discard(self)
        if self.watch is not None:
            self.watch.cancel()
        for stream in tuple(self.streams.values()):
            self._give_up(stream)
        self.streams.clear()

    def pause_writing(self) -> None:
        """Read no more from a client that does not read."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take the frames in what came, and answer what can be answered at once."""
        if self.rest:
            data = self.rest + data
            self.rest = b""
        try:
            self._take(data)
        except Broken as error:
            self._end(error.code, str(error))
        except hpack.Malformed as error:
            self._end(COMPRESSION_ERROR, str(error))
        self._flush()

    def _take(self, data: bytes) -> None:
        at, end = 0, len(data)
        if not self.greeted:
            if end < len(PREFACE) and PREFACE.startswith(data):
                self.rest = data
                return
            if not data.startswith(PREFACE):
                raise Broken(PROTOCOL_ERROR, "this port speaks gRPC, which is HTTP/2")
            self.greeted = True
            at = len(PREFACE)
        unpack, handlers = HEAD.unpack_from, self.handlers
        while end - at >= 9:
            high, low, kind, flags, stream = unpack(data, at)
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
            if self.transport.is_closing():
                return
        self.rest = data[at:]

    # Frames.

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self.allowed -= size
        if self.allowed < 0:
            raise Broken(FLOW_CONTROL_ERROR, "more data than the window allows")
        if self.allowed < CONNECTION_WINDOW // 2:
            self._put(WINDOW, 0, 0, (CONNECTION_WINDOW - self.allowed).to_bytes(4, "big"))
            self.allowed = CONNECTION_WINDOW
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            if not 0 < number <= self.last or not number & 1:
                raise Broken(PROTOCOL_ERROR, "data for a stream that was never opened")
            self._noise()
            return
        stream.allowed -= size
        if stream.allowed < 0:
            raise Broken(FLOW_CONTROL_ERROR, "more data than the window allows")
        if flags & PADDED:
            payload = _unpadded(payload)
        if not payload and not flags & END_STREAM:
            self._noise()
        if stream.messages is None and flags & END_STREAM and not stream.body:
            stream.ended = True
            self._whole(stream, payload)
            return
        stream.body += payload
        stream.touched = self.loop.time()
        stream.ended = bool(flags & END_STREAM)
        if stream.messages is not None:
            self._feed(stream)
        elif stream.ended:
            self._whole(stream, stream.body)
        elif len(stream.body) > self.front.body_bytes + 5:
            self._fail(stream, status(self._too_large(len(stream.body))))
        if stream.allowed < STREAM_WINDOW // 2 and not stream.ended and self._hungry(stream):
            self._credit(stream)

    def _hungry(self, stream: Stream) -> bool:
        """Whether more of a stream should come: its messages are taken as fast as they come, or one is not whole."""
        return stream.messages is None or stream.messages.empty()

    def _credit(self, stream: Stream) -> None:
        self._put(WINDOW, 0, stream.id, (STREAM_WINDOW - stream.allowed).to_bytes(4, "big"))
        stream.allowed = STREAM_WINDOW

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = _unpadded(payload)
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
            self._noise()
        if flags & END_HEADERS:
            self.block = None
            self._open(number, begun, bytes(block))

    def _open(self, number: int, flags: int, block: bytes) -> None:
        """Begin a call, or end what the client says in one by trailers."""
        call = self.heads.get(block)
        if call is None:
            call = self._read(block)
        stream = self.streams.get(number)
        if stream is not None:
            if not flags & END_STREAM or stream.ended:
                raise Broken(PROTOCOL_ERROR, "the trailers do not end the stream")
            self._data(END_STREAM, number, b"")
            return
        if number <= self.last:
            if self.leaving:
                return
            raise Broken(STREAM_CLOSED, "the stream is closed")
        self.last = number
        if self.leaving or len(self.streams) >= STREAMS_MOST:
            self._put(RESET, 0, number, REFUSED_STREAM.to_bytes(4, "big"))
            self._noise()
            return
        stream = Stream(number, call, self.stream_window)
        self.streams[number] = stream
        if not call.is_grpc:
            self._put(HEADERS, END_HEADERS | END_STREAM, number, NOT_GRPC)
            self._close(stream)
            return
        if call.path in self.front.methods.streaming:
            stream.messages = asyncio.Queue()
            stream.task = self.loop.create_task(self._run_stream(stream))
        stream.touched = self.loop.time()
        if flags & END_STREAM:
            self._data(END_STREAM, number, b"")

    def _read(self, block: bytes) -> Call:
        headers = self.unpacker.read(block)
        call = _call(headers)
        if self.unpacker.changes != self.changes:
            self.changes = self.unpacker.changes
            self.heads.clear()
        elif len(self.heads) < HEADS_KEPT:
            self.heads[block] = call
        return call

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise Broken(FRAME_SIZE_ERROR, "a priority has five bytes")
        self._noise()

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE_ERROR, "a reset has four bytes")
        if not 0 < number <= self.last:
            raise Broken(PROTOCOL_ERROR, "a stream that was never opened is reset")
        self._noise()
        stream = self.streams.pop(number, None)
        if stream is not None:
            self._give_up(stream)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % 6 or (flags & ACK and payload):
            raise Broken(FRAME_SIZE_ERROR, "the settings are cut off")
        if flags & ACK:
            return
        self._noise()
        for key, value in SETTING.iter_unpack(payload):
            if key == INITIAL_WINDOW:
                if value > WINDOW_MOST:
                    raise Broken(FLOW_CONTROL_ERROR, "the window is too large")
                for stream in self.streams.values():
                    stream.window += value - self.stream_window
                self.stream_window = value
            elif key == FRAME_MOST:
                if not FRAME_BYTES <= value < 1 << 24:
                    raise Broken(PROTOCOL_ERROR, "frames of that size are not allowed")
                self.frame_bytes = value
        self._put(SETTINGS, ACK, 0, b"")
        self._send_on()

    def _push(self, flags: int, number: int, payload: bytes) -> None:
        raise Broken(PROTOCOL_ERROR, "a client does not push")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Broken(FRAME_SIZE_ERROR, "a ping has eight bytes")
        if number:
            raise Broken(PROTOCOL_ERROR, "a ping is of the connection")
        if not flags & ACK:
            self._noise()
            self._put(PING, ACK, 0, payload)
        elif self.warned and payload == WARNING and not self.leaving:
            self._go_away()

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        self.leaving = True
        if not self.streams:
            self.transport.close()

    def _window(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE_ERROR, "a window has four bytes")
        more = int.from_bytes(payload, "big") & 0x7FFF_FFFF
        if not more:
            raise Broken(PROTOCOL_ERROR, "a window that grows by nothing")
        if number == 0:
            self.window += more
            if self.window > WINDOW_MOST:
                raise Broken(FLOW_CONTROL_ERROR, "the window is too large")
            self._send_on()
            return
        if number > self.last:
            raise Broken(PROTOCOL_ERROR, "the window of a stream that was never opened")
        stream = self.streams.get(number)
        if stream is None:
            return
        stream.window += more
        if stream.window > WINDOW_MOST:
            raise Broken(FLOW_CONTROL_ERROR, "the window is too large")
        self._send(stream)

    # Calls.

    def _whole(self, stream: Stream, data: bytes | bytearray) -> None:
        """Answer a call of one message, which is here."""
        call = stream.call
        try:
            message = self._message(call, bytes(data))
        except MillError as error:
            self._fail(stream, status(error))
            return
        methods = self.front.methods
        if methods.is_quick(call.path):
            answer = methods.at_once(message, call.metadata)
            if answer is not None:
                self._answer(stream, answer)
                return
        stream.body = bytearray()
        stream.task = self.loop.create_task(self._run(stream, message))

    def _message(self, call: Call, data: bytes) -> bytes:
        """The one message in the data of a call. Raises RequestError, TooLarge."""
        size = int.from_bytes(data[1:5], "big")
        if len(data) != size + 5:
            raise RequestError("message", f"says {size} bytes, the call has {max(0, len(data) - 5)}", "")
        return self._opened(call, data[0], data[5:])

    def _opened(self, call: Call, packed: int, message: bytes) -> bytes:
        if len(message) > self.front.body_bytes:
            raise self._too_large(len(message))
        if not packed:
            return message
        bits = {"gzip": 31, "deflate": 15}.get(call.encoding)
        if packed != 1 or bits is None:
            raise Unpacked("message", f"is packed as {call.encoding[:40] or 'nothing'}", f"Use {ENCODINGS.decode()}.")
        opener = zlib.decompressobj(bits)
        try:
            found = opener.decompress(message, self.front.body_bytes + 1)
        except zlib.error:
            raise RequestError("message", f"is no {call.encoding} that can be read", "") from None
        if len(found) > self.front.body_bytes:
            raise self._too_large(len(found))
        if not opener.eof:
            raise RequestError("message", f"is no whole {call.encoding}", "")
        return found

    def _too_large(self, size: int) -> TooLarge:
        message = f"has {size} bytes or more, the limit is {self.front.body_bytes}"
        return TooLarge("message", message, "Send fewer rows at a time.")

    def _feed(self, stream: Stream) -> None:
        """Hand the whole messages of a stream to its call."""
        messages = stream.messages
        assert messages is not None
        body = stream.body
        while len(body) >= 5:
            size = int.from_bytes(body[1:5], "big")
            if size > self.front.body_bytes:
                self._fail(stream, status(self._too_large(size)))
                return
            if len(body) < size + 5:
                break
            try:
                messages.put_nowait(self._opened(stream.call, body[0], bytes(body[5 : size + 5])))
            except MillError as error:
                self._fail(stream, status(error))
                return
            del body[: size + 5]
        if stream.ended:
            messages.put_nowait(None)

    def _peer(self, call: Call) -> Peer:
        deadline = self.loop.time() + call.timeout_s if call.timeout_s != math.inf else math.inf
        return Peer(deadline, call.metadata, self.address)

    async def _run(self, stream: Stream, message: bytes) -> None:
        """Answer a call of one message, which takes its time."""
        state = self.front.state
        state.in_flight += 1
        methods = self.front.methods
        path = stream.call.path
        try:
            method = methods.unary.get(path)
            if method is None:
                raise methods.unknown(path)
            caller = self._peer(stream.call)
            async with asyncio.timeout_at(None if caller.deadline == math.inf else caller.deadline):
                answer = await method(message, caller)
            self._answer(stream, answer)
        except MillError as error:
            self._fail(stream, status(error))
        except TimeoutError:
            self._fail(stream, Status(DEADLINE_EXCEEDED, "the time that the request allows has passed"))
        except Exception:
            self._fault(stream)
            raise
        finally:
            state.in_flight -= 1
            self._flush()

    async def _run_stream(self, stream: Stream) -> None:
        """Answer a call of many messages."""
        method = self.front.methods.streaming[stream.call.path]
        try:
            async for answer in method(self._messages(stream), self._peer(stream.call)):
                self._begin(stream)
                stream.pending += _framed(answer)
                self._send(stream)
                self._flush()
                while stream.pending:
                    stream.sent = asyncio.Event()
                    await stream.sent.wait()
            self._begin(stream)
            stream.trailers = LAST
            self._send(stream)
        except MillError as error:
            self._fail(stream, status(error))
        except Exception:
            self._fault(stream)
            raise
        finally:
            self._flush()

    async def _messages(self, stream: Stream) -> AsyncIterator[bytes]:
        assert stream.messages is not None
        while (message := await stream.messages.get()) is not None:
            yield message
            if not stream.ended and stream.messages.empty() and stream.allowed < STREAM_WINDOW:
                self._credit(stream)
                self._flush()

    def _fault(self, stream: Stream) -> None:
        self._fail(stream, Status(INTERNAL, "the service failed; its log says why"))

    # Answers.

    def _answer(self, stream: Stream, message: bytes) -> None:
        """The whole answer of a call that went well."""
        if stream.id not in self.streams:
            return
        size = len(message) + 5
        if size <= self.frame_bytes and size <= stream.window and size <= self.window and not stream.begun:
            self.window -= size
            number = stream.id
            self.out += (
                HEAD.pack(0, len(FIRST), HEADERS, END_HEADERS, number),
                FIRST,
                HEAD.pack(size >> 8, size & 0xFF, DATA, 0, number),
                b"\x00" + (size - 5).to_bytes(4, "big"),
                message,
                HEAD.pack(0, len(LAST), HEADERS, END_HEADERS | END_STREAM, number),
                LAST,
            )
            self._close(stream)
            return
        self._begin(stream)
        stream.pending += _framed(message)
        stream.trailers = LAST
        self._send(stream)

    def _begin(self, stream: Stream) -> None:
        if not stream.begun and stream.id in self.streams:
            stream.begun = True
            self._put(HEADERS, END_HEADERS, stream.id, FIRST)

    def _fail(self, stream: Stream, failed: Status) -> None:
        """End a call with what went wrong; what was not sent yet is not sent any more."""
        if stream.id not in self.streams:
            return
        words = quote(failed.message[:4000], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
        block = [hpack.literal(b"grpc-status", b"%d" % failed.code), hpack.literal(b"grpc-message", words)]
        if failed.code == UNIMPLEMENTED:
            block.append(hpack.literal(b"grpc-accept-encoding", ENCODINGS))
        for name, value in failed.trailers:
            text = value.encode() if isinstance(value, str) else b64encode(value).rstrip(b"=")
            block.append(hpack.literal(name.encode(), text))
        stream.pending.clear()
        stream.trailers = b"".join(block) if stream.begun else FIRST + b"".join(block)
        stream.begun = True
        self._send(stream)
        if stream.task is not None and stream.task is not asyncio.current_task():
            stream.task.cancel()

    def _send(self, stream: Stream) -> None:
        """Send of an answer what the windows allow."""
        pending = stream.pending
        while pending:
            size = min(len(pending), self.frame_bytes, stream.window, self.window)
            if size <= 0:
                return
            stream.window -= size
            self.window -= size
            self._put(DATA, 0, stream.id, bytes(pending[:size]))
            del pending[:size]
        if stream.sent is not None:
            stream.sent.set()
        if stream.trailers is not None:
            self._put(HEADERS, END_HEADERS | END_STREAM, stream.id, stream.trailers)
            self._close(stream)

    def _send_on(self) -> None:
        for stream in tuple(self.streams.values()):
            if stream.pending:
                self._send(stream)

    def _close(self, stream: Stream) -> None:
        """Forget a call that was answered."""
        del self.streams[stream.id]
        if self.noise:
            self.noise -= 1
        if not stream.ended:
            self._put(RESET, 0, stream.id, NO_ERROR.to_bytes(4, "big"))
        if self.leaving and not self.streams:
            self._flush()
            self.transport.close()

    def _give_up(self, stream: Stream) -> None:
        """Cancel what is done for a call that nobody waits for."""
        if stream.task is not None:
            stream.task.cancel()

    def _noise(self) -> None:
        self.noise += 1
        if self.noise > NOISE_MOST:
            raise Broken(CALM, "too many frames that bring nothing")

    def _put(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self.out.append(HEAD.pack(size >> 8, size & 0xFF, kind, flags, number) + payload)

    def _flush(self) -> None:
        if self.out and self.transport is not None:
            out, self.out = self.out, []
            if not self.transport.is_closing():
                self.transport.write(b"".join(out))

    # Ends.

    def warn(self) -> None:
        """Ask for no further calls; when the client has read that, none are taken, and it ends with the last answer."""
        if not self.warned:
            self.warned = True
            self._put(GOAWAY, 0, 0, WINDOW_MOST.to_bytes(4, "big") + NO_ERROR.to_bytes(4, "big"))
            self._put(PING, 0, 0, WARNING)
            self._flush()

    def _go_away(self) -> None:
        """Take no further calls; close when the present ones are answered."""
        self.leaving = True
        self._put(GOAWAY, 0, 0, self.last.to_bytes(4, "big") + NO_ERROR.to_bytes(4, "big"))
        if not self.streams:
            self._flush()
            self.transport.close()

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    def _end(self, code: int, words: str) -> None:
        """Close, and say why."""
        self.leaving = True
        self._put(GOAWAY, 0, 0, self.last.to_bytes(4, "big") + code.to_bytes(4, "big") + words.encode())
        self._flush()
        self.transport.close()

    def _look(self) -> None:
        """Now and then: end what a client has begun and does not go on with."""
        now = self.loop.time()
        self.watch = self.loop.call_later(GREETING_SECONDS, self._look)
        if not self.greeted:
            self._end(PROTOCOL_ERROR, "nothing came")
            return
        for stream in tuple(self.streams.values()):
            partial = stream.messages is None or stream.body
            if partial and not stream.ended and stream.task is None and now - stream.touched > MESSAGE_SECONDS:
                error = RequestError("message", f"nothing came for {MESSAGE_SECONDS:g} seconds", "")
                self._fail(stream, status(error))
        self._flush()


class Unpacked(Unimplemented):
    """The message is packed in a way that is not known."""


def _framed(message: bytes) -> bytes:
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR, "there is more padding than data")
    return payload[1 : len(payload) - payload[0]]


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
