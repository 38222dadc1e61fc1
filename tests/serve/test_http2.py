"""The bytes of HTTP/2 under gRPC: frames however they are cut, windows, resets, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import queue
import signal
import socket
import struct
import threading
import time

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import eventually
from slow import slowed

from modelmill.protocol.schema import schema
from modelmill.serve import packed
from modelmill.serve.engine.engine import Capacity
from modelmill.serve.handover import can_share
from modelmill.serve.request import LONG_BYTES
from modelmill.serve.rpc import hpack
from modelmill.serve.rpc.frames import (
    CALM,
    DATA,
    GOAWAY,
    HEAD,
    HEADERS,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RESET,
    SETTINGS,
    WINDOW,
)
from modelmill.serve.rpc.sender import NOISE_MOST
from modelmill.serve.server import Limits, Service

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
END, HEADERS_END, PAD, PRIO = 1, 4, 8, 0x20


@pytest.fixture(scope="module")
def service(registry):
    with Service(registry, grpc_port=0) as service:
        yield service


def frame(kind, flags, stream, payload=b""):
    return HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def head(path=INFER, *further):
    pairs = ((b":path", path.encode()), (b"content-type", b"application/grpc"), (b"te", b"trailers"), *further)
    return b"\x83\x86" + b"".join(hpack.literal(*pair) for pair in pairs)


def message(data):
    return b"\0" + len(data).to_bytes(4, "big") + data


FLOWER = schema().encode(
    "inference.ModelInferRequest",
    {
        "model_name": "flowers",
        "inputs": [{"name": name, "datatype": "FP32", "shape": [1]} for name in ("length", "width")],
        "raw_input_contents": [struct.pack("<f", 3), struct.pack("<f", 1)],
    },
)


GREETING = PREFACE + frame(SETTINGS, 0, 0)


class Raw:
    """A connection that says exactly what it is told to."""

    def __init__(self, service, greeting=GREETING):
        host, port = service.grpc_url.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.rest = b""
        self.came = {}
        self.unpacker = hpack.Unpacker()
        self.send(greeting)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def frame(self):
        """Kind, flags, stream and payload of the next frame; None at the end."""
        while True:
            if len(self.rest) >= 9:
                high, low, kind, flags, stream = HEAD.unpack_from(self.rest)
                size = 9 + (high << 8 | low)
                if len(self.rest) >= size:
                    payload, self.rest = self.rest[9:size], self.rest[size:]
                    return kind, flags, stream, payload
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self.rest += data

    def until(self, kind):
        """The next frame of a kind; None at the end."""
        while (found := self.frame()) is not None and found[0] != kind:
            pass
        return found

    def answer(self, stream):
        """The message and the trailers of a stream; what comes of others meanwhile is kept for them."""
        while True:
            body, headers, ended = self.came.get(stream, (b"", {}, False))
            if ended:
                return body[5:], headers
            kind, flags, number, payload = self.frame()
            if kind not in (HEADERS, DATA):
                continue
            body, headers, _ = self.came.get(number, (b"", {}, False))
            if kind == HEADERS:
                headers = {**headers, **dict(self.unpacker.read(payload))}
            else:
                body += payload
            self.came[number] = (body, headers, bool(flags & END))

    def reset(self, stream):
        """The code with which a stream is reset."""
        while (found := self.until(RESET)) is not None and found[2] != stream:
            pass
        return int.from_bytes(found[3], "big") if found else None

    def error(self):
        """The code of the GOAWAY that ends the connection."""
        found = self.until(GOAWAY)
        return int.from_bytes(found[3][4:8], "big") if found else None


def is_right(body):
    answer = schema().decode("inference.ModelInferResponse", body)
    return answer["raw_output_contents"][0] == b"\x04\0\0\0long"


def lives(service):
    with Raw(service) as raw:
        raw.send(frame(HEADERS, HEADERS_END, 1, head()) + frame(DATA, END, 1, message(FLOWER)))
        return is_right(raw.answer(1)[0])


def test_headers_are_unpacked_as_in_the_specification():
    unpacker = hpack.Unpacker()
    first = unpacker.read(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))
    assert first[-1] == (b":authority", b"www.example.com")
    assert unpacker.read(bytes.fromhex("828684be5886a8eb10649cbf"))[-1] == (b"cache-control", b"no-cache")
    third = unpacker.read(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))
    assert third[-1] == (b"custom-key", b"custom-value")
    assert unpacker.size == 164
    unpacker.read(b"\x20")
    assert not unpacker.table


BAD_BLOCKS = ["80", "ff", "be", "40", "4001", "000161", "7fffffffffff", "3fe2ff03", "8220", "0001618184"]


@pytest.mark.parametrize("block", BAD_BLOCKS)
def test_headers_that_cannot_be_read_are_refused(block):
    with pytest.raises(hpack.Malformed):
        hpack.Unpacker().read(bytes.fromhex(block))


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_a_call_is_answered_however_its_bytes_are_cut(service, size):
    block = head()
    data = PREFACE + frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678")
    data += frame(HEADERS, PAD | PRIO, 1, b"\x02\0\0\0\0\x10" + block[:7] + b"\0\0")
    data += frame(9, 0, 1, block[7:9]) + frame(9, HEADERS_END, 1, block[9:])
    body = message(FLOWER)
    data += frame(DATA, PAD, 1, b"\x03" + body[:20] + b"\0\0\0") + frame(DATA, 0, 1, body[20:]) + frame(DATA, END, 1)
    with Raw(service, b"") as raw:
        for start in range(0, len(data), size):
            raw.send(data[start : start + size])
        assert raw.until(PING)[1:] == (1, 0, b"12345678")
        answer, headers = raw.answer(1)
        assert is_right(answer)
        assert headers[b"grpc-status"] == b"0"
        assert headers[b":status"] == b"200"


def test_many_calls_in_one_piece_are_each_answered(service):
    calls = [frame(HEADERS, HEADERS_END, n, head()) + frame(DATA, END, n, message(FLOWER)) for n in range(1, 101, 2)]
    with Raw(service) as raw:
        raw.send(b"".join(calls))
        assert all(is_right(raw.answer(n)[0]) for n in range(1, 101, 2))


def test_an_answer_waits_for_the_windows_of_its_client(service):
    greeting = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 10))
    with Raw(service, greeting) as raw:
        raw.send(frame(HEADERS, HEADERS_END, 1, head()) + frame(DATA, END, 1, message(FLOWER)))
        found = b""
        while True:
            kind, flags, _, payload = raw.frame()
            if kind == DATA:
                assert len(payload) <= 10
                found += payload
                raw.send(frame(WINDOW, 0, 1, (len(payload)).to_bytes(4, "big")))
            if kind == HEADERS and flags & END:
                break
        assert is_right(found[5:])


def test_what_is_not_grpc_is_told_so(service):
    with Raw(service) as raw:
        raw.send(frame(HEADERS, HEADERS_END | END, 1, b"\x82\x86\x84"))
        assert raw.answer(1)[1] == {b":status": b"415"}
    with Raw(service, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n") as raw:
        assert raw.error() == PROTOCOL_ERROR
        assert raw.frame() is None


OPEN = frame(HEADERS, HEADERS_END, 1, head())


@pytest.mark.parametrize(
    "data",
    [
        frame(DATA, 0, 1, b"x"),
        frame(DATA, 0, 0, b"x"),
        frame(HEADERS, HEADERS_END, 2, head()),
        frame(HEADERS, HEADERS_END, 1, b"\xff\xff\xff\xff\xff\xff"),
        frame(HEADERS, 0, 1, head()) + frame(PING, 0, 0, bytes(8)),
        frame(HEADERS, PAD | HEADERS_END, 1, b"\xff"),
        frame(9, HEADERS_END, 1, b""),
        frame(5, 0, 1, b"1234"),
        frame(PING, 0, 0, b"1"),
        frame(PING, 0, 1, bytes(8)),
        frame(SETTINGS, 0, 0, b"12345"),
        frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)),
        frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)),
        frame(WINDOW, 0, 0, bytes(4)),
        frame(WINDOW, 0, 0, (2**31 - 1).to_bytes(4, "big")),
        frame(WINDOW, 0, 5, b"\0\0\0\1"),
        frame(RESET, 0, 5, bytes(4)),
        frame(RESET, 0, 1, b"1"),
        OPEN + OPEN,
        OPEN + frame(DATA, PAD, 1, b"\x05abc"),
        HEAD.pack(0xFFFF, 0xFF, DATA, 0, 1),
        frame(HEADERS, 0, 1, head()) + frame(9, 0, 1, bytes(16_000)) * 2,
    ],
)
def test_a_client_that_breaks_the_protocol_is_told_and_left(service, data):
    with Raw(service) as raw:
        raw.send(data)
        assert raw.error() not in (None, 0)
        assert raw.frame() is None
    assert lives(service)


@pytest.mark.parametrize(
    "noise",
    [
        lambda n: frame(PING, 0, 0, bytes(8)),
        lambda n: frame(SETTINGS, 0, 0),
        lambda n: frame(HEADERS, HEADERS_END, n, head()) + frame(RESET, 0, n, bytes(4)),
    ],
)
def test_a_client_that_only_makes_noise_is_left(service, noise):
    with Raw(service) as raw:

        def make():
            try:
                for place in range(NOISE_MOST + 500):
                    raw.send(noise(2 * place + 1))
            except OSError:
                pass

        thread = threading.Thread(target=make)
        thread.start()
        assert raw.error() in (CALM, None)  # the reason may be lost with the connection
        thread.join(20)
        assert not thread.is_alive()
    assert lives(service)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 63), st.integers(0, 6), st.binary(max_size=60)), max_size=12
    ),
    begun=st.booleans(),
)
def test_any_frames_leave_the_service_alive(service, frames, begun):
    with Raw(service) as raw:
        raw.send(OPEN if begun else b"")
        raw.send(b"".join(frame(kind, flags, stream, payload) for kind, flags, stream, payload in frames))
        raw.socket.shutdown(socket.SHUT_WR)
        while raw.frame() is not None:
            pass
    assert service.server.state.in_flight == 0 or eventually(lambda: service.server.state.in_flight == 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 120), piece=st.binary(max_size=12), cut=st.integers(0, 120))
def test_a_damaged_message_is_never_our_fault(service, start, piece, cut):
    damaged = FLOWER[:start] + piece + FLOWER[max(start, cut) :]
    with Raw(service) as raw:
        raw.send(OPEN + frame(DATA, END, 1, message(damaged)))
        headers = raw.answer(1)[1]
        assert headers[b"grpc-status"] in (b"0", b"3", b"5"), headers


@contextlib.contextmanager
def slowly(registry, limits):
    """A service whose one thread runs a slow model: the service, and the lane of the slow session."""
    with Service(registry, ["flowers"], limits=limits, grpc_port=0) as service:
        session = slowed(service)
        try:
            yield service, service.server.catalogue.served["flowers"].lane
        finally:
            session.gate.set()


@pytest.fixture
def slow(registry):
    with slowly(registry, Limits(capacity=Capacity(threads=1))) as found:
        yield found


def test_a_call_that_is_cancelled_takes_its_work_with_it(slow):
    service, lane = slow
    with grpc.insecure_channel(service.grpc_url) as channel:
        calls = [channel.unary_unary(INFER).future(FLOWER) for _ in range(2)]
        assert lane.session.started.wait(10)
        engine = service.server.engine
        assert eventually(lambda: engine.waiting == 1)
        for call in calls:
            call.cancel()
        assert eventually(lambda: engine.waiting == 0)
        assert eventually(lambda: service.server.state.in_flight == 0)


def test_a_deadline_ends_a_call(slow):
    service, lane = slow
    with grpc.insecure_channel(service.grpc_url) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(INFER)(FLOWER, timeout=0.3)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert lane.session.started.is_set()
        assert eventually(lambda: service.server.state.in_flight == 0)
    with Raw(service) as raw:
        raw.send(frame(HEADERS, HEADERS_END, 1, head(INFER, (b"grpc-timeout", b"100m"))))
        raw.send(frame(DATA, END, 1, message(FLOWER)))
        assert raw.answer(1)[1][b"grpc-status"] == b"4"


def test_draining_answers_what_is_in_flight_and_refuses_what_is_new(slow):
    service, lane = slow
    with grpc.insecure_channel(service.grpc_url) as channel:
        call = channel.unary_unary(INFER).future(FLOWER)
        assert lane.session.started.wait(10)
        service.server.drain()
        assert eventually(lambda: service.server.state.refusing)
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(INFER)(FLOWER, timeout=20)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in error.value.details()
        lane.session.gate.set()
        assert is_right(call.result(20))
        service.thread.join(20)
        assert not service.thread.is_alive()


def opened(raw, *pieces):
    """Begin a stream on a connection; back when the service has read what comes of it."""
    raw.send(frame(HEADERS, HEADERS_END, 1, head(STREAM)) + b"".join(frame(DATA, 0, 1, one) for one in pieces))
    raw.send(frame(HEADERS, HEADERS_END, 3, head(LIVE)) + frame(DATA, END, 3, message(b"")))
    raw.answer(3)


def test_a_stream_that_waits_for_its_next_message_is_told_that_the_service_ends(registry):
    with Service(registry, ["flowers"], grpc_port=0) as service:
        with grpc.insecure_channel(service.grpc_url) as channel:
            sent = queue.Queue()
            answers = channel.stream_stream(STREAM)(iter(sent.get, None), timeout=60)
            sent.put(FLOWER)
            assert b"\x04\0\0\0long" in next(answers)
            service.server.drain()
            with pytest.raises(grpc.RpcError) as error:
                next(answers)
            assert (error.value.code(), "reconnect" in error.value.details()) == (grpc.StatusCode.UNAVAILABLE, True)
            sent.put(None)
        service.thread.join(20)  # less than requests in flight may take
        assert not service.thread.is_alive()


def test_who_only_waits_and_watches_does_not_keep_a_service_from_its_end(registry):
    limits = Limits(drain_seconds=200.0)
    with (
        Service(registry, ["flowers"], limits=limits, grpc_port=0) as service,
        grpc.insecure_channel(service.grpc_url) as channel,
    ):
        sent = queue.Queue()
        answers = channel.stream_stream(STREAM)(iter(sent.get, None))
        sent.put(FLOWER)
        assert b"\x04\0\0\0long" in next(answers)
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert next(watch) == b"\x08\x01"
        service.server.handle_exit(signal.SIGTERM, None)
        service.thread.join(100)
        assert not service.thread.is_alive()
        sent.put(None)


def test_messages_that_came_are_answered_at_the_end_and_no_later_ones(slow):
    service, lane = slow
    whole, begun, rest = message(FLOWER), message(FLOWER)[:20], message(FLOWER)[20:]
    with Raw(service) as two, Raw(service) as half, Raw(service) as idle:
        opened(two, whole + whole)
        opened(half, whole, begun)
        opened(idle)
        service.server.drain()
        assert idle.answer(1)[1][b"grpc-status"] == b"14"
        two.send(frame(DATA, 0, 1, whole))
        half.send(frame(DATA, 0, 1, rest + begun) + frame(DATA, 0, 1, rest))
        idle.send(frame(HEADERS, HEADERS_END, 5, head(STREAM)) + frame(DATA, 0, 5, whole))
        assert idle.reset(5) == REFUSED_STREAM
        time.sleep(0.5)  # longer than it takes to be found out that nobody waits any more
        lane.session.gate.set()
        for raw in (two, half):
            body, headers = raw.answer(1)
            assert body.count(b"\x04\0\0\0long") == 2
            assert (headers[b"grpc-status"], b"reconnect" in headers[b"grpc-message"]) == (b"14", True)
        service.thread.join(20)
        assert not service.thread.is_alive()


def test_a_client_that_does_not_read_the_warning_holds_nothing_up(registry):
    with Service(registry, ["flowers"], grpc_port=0) as service, Raw(service) as raw, Raw(service, b"") as silent:
        assert raw.until(SETTINGS)
        assert silent.until(SETTINGS)
        service.server.drain()
        service.thread.join(20)
        assert not service.thread.is_alive()
        assert raw.until(GOAWAY)


def test_what_takes_longer_than_the_end_may_is_told_so(registry):
    limits = Limits(capacity=Capacity(threads=1), drain_seconds=0.2)
    with slowly(registry, limits) as (service, lane), Raw(service) as raw:
        raw.send(frame(HEADERS, HEADERS_END, 1, head()) + frame(DATA, END, 1, message(FLOWER)))
        assert lane.session.started.wait(10)
        service.server.drain()
        headers = raw.answer(1)[1]
        assert (headers[b"grpc-status"], b"has ended" in headers[b"grpc-message"]) == (b"14", True)


def test_a_second_interrupt_waits_for_nothing(slow):
    service, lane = slow
    with Raw(service) as raw:
        raw.send(frame(HEADERS, HEADERS_END, 1, head()) + frame(DATA, END, 1, message(FLOWER)))
        assert lane.session.started.wait(10)
        service.server.handle_exit(signal.SIGINT, None)
        assert eventually(lambda: service.server.state.refusing)
        service.server.handle_exit(signal.SIGINT, None)
        headers = raw.answer(1)[1]
        assert (headers[b"grpc-status"], b"has ended" in headers[b"grpc-message"]) == (b"14", True)


def test_large_messages_go_both_ways_packed_or_not(service):
    rows = 40_000
    columns = {
        "name": (np.full(rows, "abcdefgh", object), "BYTES", (rows,)),
        "code": (np.full(rows, "b", object), "BYTES", (rows,)),
        "count": (np.arange(rows, dtype=np.int64), "INT64", (rows,)),
        "flag": (np.ones(rows, bool), "BOOL", (rows,)),
        "day": (np.zeros(rows, np.int64), "INT64", (rows,)),
        "small": (np.zeros((rows, 2, 2), np.uint8), "UINT8", (rows, 2, 2)),
        "vector": (np.ones((rows, 3), np.float32), "FP32", (rows, 3)),
    }
    from modelmill.serve.request import encode

    request = {
        "model_name": "mixed",
        "inputs": [{"name": name, "datatype": kind, "shape": shape} for name, (_, kind, shape) in columns.items()],
        "raw_input_contents": [encode(array) for array, _, _ in columns.values()],
    }
    data = schema().encode("inference.ModelInferRequest", request)
    assert len(data) > 2_000_000
    with grpc.insecure_channel(service.grpc_url, options=(("grpc.max_receive_message_length", -1),)) as channel:
        for packing in (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate):
            answer = channel.unary_unary(INFER)(data, timeout=60, compression=packing)
            found = schema().decode("inference.ModelInferResponse", answer)["raw_output_contents"]
            assert found == request["raw_input_contents"]


def test_a_packed_bomb_is_refused(registry):
    with (
        Service(registry, ["flowers"], limits=Limits(body_bytes=100_000), grpc_port=0) as service,
        grpc.insecure_channel(service.grpc_url) as channel,
    ):
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(INFER)(bytes(50_000_000), timeout=20, compression=grpc.Compression.Gzip)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.unary_unary(LIVE)(b"", timeout=20) == b"\x08\x01"


@pytest.mark.skipif(not can_share(), reason="the system lets one process listen on a port")
def test_a_port_is_handed_on_without_a_failed_call(registry):
    limits = Limits(reuse_port=True)
    failed, done = [], [0]
    stop = threading.Event()
    first = Service(registry, ["flowers"], limits=limits, grpc_port=0).__enter__()

    def ask():
        with grpc.insecure_channel(first.grpc_url) as channel:
            call = channel.unary_unary(INFER)
            while not stop.is_set():
                try:
                    assert is_right(call(FLOWER, timeout=20))
                    done[0] += 1
                except grpc.RpcError as error:
                    failed.append(f"{error.code().name} {error.details()}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert eventually(lambda: done[0] > 5)
        with Service(registry, ["flowers"], limits=limits, grpc_port=int(first.grpc_url.rpartition(":")[2])):
            first.close()
            before = done[0]
            assert eventually(lambda: done[0] > before + 20)
            stop.set()
            thread.join(20)
        assert failed == []
    finally:
        stop.set()
        thread.join(20)
        first.close()


def test_a_message_that_says_that_it_is_too_large_is_refused_at_once(service):
    with Raw(service) as raw:
        raw.send(frame(HEADERS, HEADERS_END, 1, head()) + frame(DATA, 0, 1, b"\0\x7f\xff\xff\xff"))
        _, headers = raw.answer(1)
        assert headers[b"grpc-status"] == b"8"
        assert b"has 2147483647 bytes" in headers[b"grpc-message"]
        raw.send(frame(HEADERS, HEADERS_END, 3, head()) + frame(DATA, END, 3, message(FLOWER)))
        assert is_right(raw.answer(3)[0])


def test_an_answer_that_is_not_taken_is_let_go_of(registry, monkeypatch):
    """The client's window has no room for it, and stays so; one that takes a byte at a time is waited for."""
    monkeypatch.setattr("modelmill.serve.rpc.connection.GREETING_SECONDS", 0.1)
    nothing = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    with Service(registry, grpc_port=0) as service, Raw(service, nothing) as raw:
        for stream in (1, 3):
            raw.send(frame(HEADERS, HEADERS_END, stream, head()) + frame(DATA, END, stream, message(FLOWER)))
        for _ in range(20):
            raw.send(frame(WINDOW, 0, 3, (1).to_bytes(4, "big")))
            time.sleep(0.03)
        _, headers = raw.answer(1)
        assert headers[b"grpc-status"] == b"4"
        assert b"not taken" in headers[b"grpc-message"]
        raw.send(frame(WINDOW, 0, 3, (1 << 20).to_bytes(4, "big")))
        raw.send(frame(HEADERS, HEADERS_END, 5, head(LIVE)) + frame(DATA, END, 5, message(b"")))


def test_a_client_holds_no_more_than_its_share_of_unfinished_messages(service, monkeypatch):
    monkeypatch.setattr("modelmill.serve.rpc.receiver.HELD_BYTES", 1_400_000)
    piece = b"x" * 16_000
    with Raw(service) as raw:
        for stream in (1, 3):
            raw.send(frame(HEADERS, HEADERS_END, stream, head()))
            first = b"\0" + (2_000_000).to_bytes(4, "big")
            raw.send(b"".join(frame(DATA, 0, stream, one) for one in (first, *[piece] * 60)))
        _, headers = raw.answer(3)
        assert headers[b"grpc-status"] == b"8"
        assert b"not whole" in headers[b"grpc-message"]


def test_a_method_that_is_not_there_is_said_before_its_message_came(service):
    with Raw(service) as raw:
        raw.send(frame(HEADERS, HEADERS_END, 1, head("/inference.GRPCInferenceService/Nothing")))
        raw.send(frame(DATA, 0, 1, b"\0\0\0\xff\xff" + b"x" * 100))
        assert raw.answer(1)[1][b"grpc-status"] == b"12"


GZIP = (b"grpc-encoding", b"gzip")


def squeezed(data):
    """A message that is packed, and fits into one frame."""
    packed = gzip.compress(data)
    return b"\1" + len(packed).to_bytes(4, "big") + packed


class Inflating:
    """Inflates, and remembers in which threads, how much was allowed, and how many did so at a time."""

    def __init__(self, inflated):
        self.inflated = inflated
        self.seen = []
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, where, message, encoding, most_bytes):
        with self.lock:
            self.seen.append((threading.get_ident(), most_bytes))
            self.now += 1
            self.most = max(self.most, self.now)
        found = self.inflated(where, message, encoding, most_bytes)
        with self.lock:
            self.now -= 1
        return found


@pytest.fixture
def inflating(monkeypatch):
    found = Inflating(packed.inflated)
    monkeypatch.setattr(packed, "inflated", found)
    return found


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_what_is_long_is_inflated_off_the_loop(service, inflating, path):
    """On the loop no more than what is short anyway, and so much of a long one only as shows that it is."""
    with Raw(service) as raw:
        for stream, data in ((1, FLOWER), (3, FLOWER + b"\x42\x80\x80\x20" + bytes(1 << 19))):
            raw.send(frame(HEADERS, HEADERS_END, stream, head(path, GZIP)) + frame(DATA, END, stream, squeezed(data)))
            body, headers = raw.answer(stream)
            assert headers[b"grpc-status"] == b"0"
            assert b"\x04\0\0\0long" in body
    loop = service.thread.ident
    assert [most for thread, most in inflating.seen if thread == loop] == [LONG_BYTES, LONG_BYTES]
    assert len([most for thread, most in inflating.seen if thread != loop]) == 1


def test_one_client_has_few_long_messages_inflated_at_a_time(service, inflating, monkeypatch):
    """Each is held until it is answered, and 256 of 64 MiB would be more than there is."""
    gate = threading.Event()
    held = []

    async def infer(message, peer):
        held.append(len(message))
        await asyncio.to_thread(gate.wait, 20)
        return b""

    monkeypatch.setitem(service.server.front.offer.methods.unary, INFER, infer)
    with Raw(service) as raw:
        for stream in range(1, 21, 2):
            raw.send(frame(HEADERS, HEADERS_END, stream, head(INFER, GZIP)))
            raw.send(frame(DATA, END, stream, squeezed(bytes(1 << 20))))
        raw.send(frame(HEADERS, HEADERS_END, 21, head(LIVE)) + frame(DATA, END, 21, message(b"")))
        assert raw.answer(21)[1][b"grpc-status"] == b"0"
        assert eventually(lambda: len(held) == packed.LONG_MOST)
        assert len([most for _, most in inflating.seen if most > LONG_BYTES]) == packed.LONG_MOST
        gate.set()
        assert raw.answer(19)[1][b"grpc-status"] == b"0"


def test_messages_of_a_stream_wait_as_they_came(service, inflating):
    """Those that nobody has asked for yet are packed still: the first one is refused, and the second never inflated."""
    broken = b"\1\0\0\0\4none"
    with Raw(service) as raw:
        raw.send(frame(HEADERS, HEADERS_END, 1, head(STREAM, GZIP)))
        raw.send(frame(DATA, END, 1, broken + squeezed(bytes(1 << 20))))
        assert raw.answer(1)[1][b"grpc-status"] == b"3"
    assert len(inflating.seen) == 1


def test_a_deadline_ends_a_stream_that_waits_for_a_message(service):
    with Raw(service) as raw:
        timeout = (b"grpc-timeout", b"300m")
        raw.send(frame(HEADERS, HEADERS_END, 1, head(STREAM, timeout)))
        assert raw.answer(1)[1][b"grpc-status"] == b"4"
        raw.send(frame(HEADERS, HEADERS_END, 3, head(STREAM, timeout)) + frame(DATA, 0, 3, message(FLOWER)))
        body, headers = raw.answer(3)
        assert (b"\x04\0\0\0long" in body, headers[b"grpc-status"]) == (True, b"4")
    assert lives(service)


def test_a_stream_of_many_messages_lets_others_in(service, monkeypatch):
    """Not only where one of them must wait: here none does."""
    begun, answered = threading.Event(), []

    async def infer(message, peer):
        begun.set()
        time.sleep(0.001)
        answered.append(message)
        return b""

    monkeypatch.setattr(service.server.front.offer.methods, "infer", infer)
    with Raw(service) as many, Raw(service) as one:
        one.send(frame(HEADERS, HEADERS_END, 1, head(LIVE)) + frame(DATA, END, 1, message(b"")))
        one.answer(1)
        many.send(frame(HEADERS, HEADERS_END, 1, head(STREAM)) + frame(DATA, END, 1, message(b"") * 300))
        assert begun.wait(20)
        one.send(frame(HEADERS, HEADERS_END, 3, head(LIVE)) + frame(DATA, END, 3, message(b"")))
        one.answer(3)
        assert len(answered) < 300
        assert many.answer(1)[1][b"grpc-status"] == b"0"
    assert len(answered) == 300


def test_streams_hold_no_more_than_a_client_s_share_of_unfinished_messages(service, monkeypatch):
    monkeypatch.setattr("modelmill.serve.rpc.receiver.HELD_BYTES", 1_400_000)
    piece = b"x" * 16_000
    with Raw(service) as raw:
        for stream in (1, 3):
            raw.send(frame(HEADERS, HEADERS_END, stream, head(STREAM)))
            first = b"\0" + (2_000_000).to_bytes(4, "big")
            raw.send(b"".join(frame(DATA, 0, stream, one) for one in (first, *[piece] * 60)))
        assert b"not whole" in raw.answer(3)[1][b"grpc-message"]
