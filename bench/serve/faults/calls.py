"""Calls over gRPC that are wrong or given up, and frames of HTTP/2 that no library would send."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import grpc
from load import CALL, body_of

from faults.target import WAIT_S, Fault, Target, reset, until
from modelmill.serve.rpc import frames as h2
from modelmill.serve.rpc import hpack
from modelmill.serve.rpc.sender import NOISE_MOST

NOISE = NOISE_MOST + 500
"""More frames that bring nothing than a connection may send."""
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
"""Every fault has a connection of its own."""


def metadata(target: Target, key: str = "good") -> list[tuple[str, str]]:
    return [("authorization", target.bearer(key).partition(": ")[2])]


def called(
    target: Target,
    message: bytes,
    path: str = CALL,
    key: str = "good",
    timeout_s: float = WAIT_S,
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> str:
    with grpc.insecure_channel(target.at.grpc, options=OPTIONS) as channel:
        try:
            channel.unary_unary(path)(message, timeout_s, metadata=metadata(target, key), compression=compression)
        except grpc.RpcError as error:
            return f"grpc {error.code().value[0]}"
    return "grpc 0"


MESSAGE = body_of("tiny", "grpc")[0]
"""A whole message as it goes over the wire, five bytes before it."""


def damaged(n: int) -> bytes:
    draw = random.Random(n)
    message, at = bytearray(MESSAGE[5:]), draw.randrange(len(MESSAGE) - 9)
    message[at : at + draw.randrange(1, 4)] = draw.randbytes(draw.randrange(4))
    return bytes(message)


CALLS: dict[str, Callable[[Target, int], str]] = {
    "a damaged message": lambda t, n: called(t, damaged(n)),
    "a wrong key": lambda t, n: called(t, MESSAGE[5:], key=f"mm_{n:012d}_{'a' * 32}"),
    "an unknown method": lambda t, n: called(t, b"", f"/inference.GRPCInferenceService/Nothing{n}"),
    "an unknown model": lambda t, n: called(t, b"\n\x08nobody%02d" % (n % 100)),
    "a time that has passed": lambda t, _: called(t, MESSAGE[5:], timeout_s=1e-6),
    "a packed bomb": lambda t, _: called(t, bytes(80_000_000), compression=grpc.Compression.Gzip),
}


def call(make: Callable[[Target, int], str]) -> Fault:
    def fault(target: Target, n: int) -> Iterator[str]:
        yield make(target, n)

    return fault


def cancelled(target: Target, n: int) -> Iterator[str]:
    """A call, or a stream that is open, that its client gives up."""
    with grpc.insecure_channel(target.at.grpc, options=OPTIONS) as channel:
        if n % 2:
            channel.unary_unary(CALL).future(MESSAGE[5:], metadata=metadata(target)).cancel()
        else:
            stream = channel.stream_stream(f"{CALL.replace('ModelInfer', 'ModelStreamInfer')}")
            answers = stream(iter([MESSAGE[5:]] * 20), metadata=metadata(target))
            next(answers)
            answers.cancel()
    yield "left"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return h2.HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def headers(target: Target, stream: int) -> bytes:
    """The frame that begins a call."""
    told = [(":path", CALL), ("content-type", "application/grpc"), *metadata(target)]
    block = b"\x83\x86" + b"".join(hpack.literal(name.encode(), value.encode()) for name, value in told)
    return frame(h2.HEADERS, h2.END_HEADERS, stream, block)


RESETS = tuple(range(1, 2 * NOISE, 2))
FRAMES: dict[str, Callable[[Target, int], bytes]] = {
    "resets": lambda t, _: b"".join(headers(t, n) + frame(h2.RESET, 0, n, bytes(4)) for n in RESETS),
    "pings": lambda *_: frame(h2.PING, 0, 0, bytes(8)) * NOISE,
    "settings": lambda *_: frame(h2.SETTINGS, 0, 0) * NOISE,
    "headers without end": lambda t, _: frame(h2.HEADERS, 0, 1) + frame(9, 0, 1, bytes(16_000)) * 50,
    "headers that are none": lambda *_: frame(h2.HEADERS, h2.END_HEADERS, 1, b"\xff" * 6),
    "a frame too large": lambda *_: h2.HEAD.pack(0xFFFF, 0xFF, h2.DATA, 0, 1),
    "any frames": lambda t, n: (
        headers(t, 1) * (n % 2)
        + b"".join(
            frame(draw.randrange(12), draw.randrange(64), draw.randrange(6), draw.randbytes(draw.randrange(60)))
            for draw in [random.Random(n)] * 20
        )
    ),
    "half a message": lambda t, _: headers(t, 1) + frame(h2.DATA, 0, 1, MESSAGE[:20]),
    "a message of 2 GB": lambda t, _: headers(t, 1) + frame(h2.DATA, 0, 1, b"\0\x7f\xff\xff\xff" + MESSAGE),
}


def frames(make: Callable[[Target, int], bytes]) -> Fault:
    """A fault that is bytes behind the greeting of HTTP/2."""

    def fault(target: Target, n: int) -> Iterator[str]:
        with socket.create_connection(("127.0.0.1", target.grpc_port), timeout=20) as connection:
            with suppress(OSError):
                connection.sendall(h2.PREFACE + frame(h2.SETTINGS, 0, 0) + make(target, n))
            yield answered(connection)

    return fault


def no_window(target: Target, _: int) -> Iterator[str]:
    """A client that asks, and lets nothing come."""
    with socket.create_connection(("127.0.0.1", target.grpc_port), timeout=20) as connection:
        settings = frame(h2.SETTINGS, 0, 0, h2.SETTING.pack(h2.INITIAL_WINDOW, 0))
        connection.sendall(h2.PREFACE + settings + headers(target, 1) + frame(h2.DATA, h2.END_STREAM, 1, MESSAGE))
        yield answered(connection, 5.0)
        reset(connection)


def answered(connection: socket.socket, wait_s: float = WAIT_S) -> str:
    """What ends a connection of HTTP/2, or its call."""
    data, unpacker = bytearray(), hpack.Unpacker()

    def told(piece: bytes) -> str:
        data.extend(piece)
        while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
            kind, payload = data[3], bytes(data[9 : 9 + size])
            del data[: 9 + size]
            if kind == h2.GOAWAY:
                return f"goaway {int.from_bytes(payload[4:8], 'big')}"
            if kind == h2.RESET:
                return f"reset {int.from_bytes(payload, 'big')}"
            found = dict(unpacker.read(payload)) if kind == h2.HEADERS else {}
            if b"grpc-status" in found:
                return f"grpc {found[b'grpc-status'].decode()}"
        return ""

    return until(connection, told, wait_s)


FAULTS: dict[str, Fault] = {
    **{f"gRPC: {name}": call(make) for name, make in CALLS.items()},
    "gRPC: a call that is given up": cancelled,
    **{f"HTTP/2: {name}": frames(make) for name, make in FRAMES.items()},
    "HTTP/2: no window": no_window,
}
