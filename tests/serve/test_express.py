"""The short way of small requests: the same answers as the ordinary way, in order, whatever comes before or after."""

from __future__ import annotations

import json
import socket
import threading
import time

import numpy as np
import pytest
from patience import eventually
from slow import slowed
from wires import BODY, PATH, Wire, request

from modelmill.serve.engine.engine import Capacity
from modelmill.serve.server import Limits, Service
from modelmill.serve.signals.signals import Telling
from modelmill.serve.web import heads, protocol
from modelmill.serve.web.express import Express


@pytest.fixture
def own(registry):
    """A service that a test may change."""
    with Service(registry) as service:
        yield service


def test_both_ways_give_the_same_answer(wire, shorts):
    wire.send(request())
    short = wire.answer()
    wire.send(request(connection="close"))
    status, headers, body = wire.answer()
    assert shorts == [True]
    assert headers.pop("connection") == "close"
    assert (status, headers, body) == short
    assert json.loads(body)["outputs"][0]["data"] == ["long", "wide"]
    assert headers["modelmill-version"] == "flowers@1"


def test_bytes_go_the_short_way_too(wire, shorts):
    head = json.dumps(
        {
            "inputs": [
                {"name": n, "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
                for n in ("length", "width")
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body = head + np.array([1, 3], "<f4").tobytes()
    wire.send(request(body, inference_header_content_length=len(head)))
    status, headers, answer = wire.answer()
    assert (status, shorts) == (200, [True])
    assert answer[int(headers["inference-header-content-length"]) :].startswith(b"\x04\0\0\0wide")


@pytest.mark.parametrize("path", ["/v2/models/flowers/versions/2/infer", "/v2/models/flowers@2/infer"])
def test_a_version_that_is_asked_for_goes_the_short_way_once_it_is_in_memory(wire, shorts, path):
    for _ in range(3):
        wire.send(request(path=path))
        status, headers, body = wire.answer()
        assert (status, headers["modelmill-version"]) == (200, "flowers@2")
        assert json.loads(body)["outputs"][0]["data"] == ["wide", "long"]  # the other way round
    assert shorts[-2:] == [True, True]


@pytest.mark.parametrize("version", ["9", "x", "", "2/versions/2"])
def test_a_version_that_is_not_there_is_left_to_the_ordinary_way(wire, shorts, version):
    wire.send(request(path=f"/v2/models/flowers/versions/{version}/infer"))
    assert wire.answer()[0] in (400, 404)
    assert shorts == []


def test_a_request_that_comes_in_pieces_is_answered(wire, shorts):
    whole = request()
    for start in range(0, len(whole), 40):
        wire.send(whole[start : start + 40])
    assert wire.answer()[0] == 200
    wire.send(whole)
    assert wire.answer()[0] == 200
    assert shorts[-1]


@pytest.fixture
def parsed(monkeypatch):
    """The heads that were parsed for the short way, and not known by their bytes."""
    found = []
    opened = Express.opened

    def watched(self, url, headers):
        found.append(url)
        return opened(self, url, headers)

    monkeypatch.setattr(Express, "opened", watched)
    return found


def test_a_head_is_parsed_once_on_all_connections(service, shorts, parsed):
    name = {"x_client": "parsed-once"}
    answers = []
    for _ in range(2):
        wire = Wire(service.url)
        for body in (BODY, BODY.replace(b"[3, 1]", b"[1, 3]")):
            wire.send(request(body, **name))
            answers.append(wire.answer())
        wire.file.close()
        wire.socket.close()
    assert [json.loads(body)["outputs"][0]["data"] for *_, body in answers] == [["long", "wide"], ["long", "long"]] * 2
    assert shorts == [True] * 4
    assert parsed == [PATH.encode()]


def test_a_known_head_before_anything_but_one_whole_request_is_parsed_anew(wire, shorts):
    """Half a body, two requests in one piece, a wrong body: what is known of the head decides nothing."""
    whole = request(x_client="known")
    wire.send(whole)
    wire.send(whole + whole)
    wire.send(whole[:-20])
    assert [wire.answer()[0] for _ in range(3)] == [200] * 3
    wire.send(whole[-20:] + whole)
    assert [wire.answer()[0] for _ in range(2)] == [200] * 2
    wire.send(whole.replace(b"FP32", b"FP64"))
    assert wire.answer()[0] == 400
    wire.send(whole)
    assert wire.answer()[0] == 200
    assert shorts[-2:] == [False, True]


def test_two_blank_lines_in_a_body_end_no_head(wire, shorts):
    whole = request(BODY + b"\r\n\r\n")
    for _ in range(2):
        wire.send(whole)
        assert wire.answer()[0] == 200
    bare = request(BODY + b"\r\n\r\n", x_client="bare").replace(b"\r\n", b"\n", 5)
    wire.send(bare)
    assert wire.answer()[0] == 400
    assert shorts == [True] * 2


def test_a_model_that_is_no_longer_served_is_not_answered_for_its_known_head(own):
    wire = Wire(own.url)
    for _ in range(2):
        wire.send(request(x_client="unloaded"))
        assert wire.answer()[0] == 200
    wire.send(b"POST /v2/repository/models/flowers/unload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
    assert wire.answer()[0] == 200
    wire.send(request(x_client="unloaded"))
    assert wire.answer()[0] == 404
    wire.file.close()
    wire.socket.close()


def test_heads_are_remembered_within_bounds(wire, monkeypatch):
    monkeypatch.setattr(heads, "KNOWN_MOST", 3)
    for number in (*range(9), 7, 8):
        wire.send(request(x_client=f"number {number}"))
        assert wire.answer()[0] == 200
    wire.send(request(x_client="y" * heads.KNOWN_BYTES))
    assert wire.answer()[0] == 200


def test_an_idle_connection_is_closed_after_some_looks_and_a_busy_one_is_not(registry, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    with Service(registry, ["flowers"]) as service:
        idle, busy = Wire(service.url), Wire(service.url)
        idle.send(request())
        assert idle.answer()[0] == 200
        idle.socket.settimeout(0.05)
        for _ in range(200):
            busy.send(request())
            assert busy.answer()[0] == 200
            try:
                assert idle.socket.recv(1) == b""
                break
            except TimeoutError:
                pass
        else:
            raise AssertionError("the idle connection is open still")
        busy.send(request())
        assert busy.answer()[0] == 200
        for wire in (idle, busy):
            wire.file.close()
            wire.socket.close()


def test_answers_keep_the_order_of_requests(wire):
    """A pipeline that mixes both ways: what needs a task holds back what would not."""
    wrong = request(b'{"inputs": []}')
    wire.send(request() + wrong + request() + b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n" + request())
    assert [wire.answer()[0] for _ in range(5)] == [200, 400, 200, 200, 200]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "is not JSON"),
        (BODY.replace(b"FP32", b"FP64", 1), "expected FP32"),
        (BODY.replace(b"[3, 1]", b"[3, null, 1]"), "wants 2 elements"),
        (b"", "is empty"),
    ],
)
def test_what_is_wrong_is_said_in_words(wire, shorts, body, words):
    wire.send(request(body))
    status, _, answer = wire.answer()
    assert (status, shorts) == (400, [False])
    assert words in json.loads(answer)["error"]
    wire.send(request())
    assert wire.answer()[0] == 200


def test_a_client_that_waits_to_be_told_to_go_on_is_told(wire):
    head, _, body = request(expect="100-continue").partition(b"\r\n\r\n")
    wire.send(head + b"\r\n\r\n")
    assert wire.file.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert wire.file.readline() == b"\r\n"
    wire.send(body)
    assert wire.answer()[0] == 200


def test_other_paths_and_unknown_models_go_the_ordinary_way(wire, shorts):
    for path, version in (("/v2/models/flowers%402/infer", "flowers@2"), (f"{PATH}?a=b", "flowers@1")):
        wire.send(request(path=path))
        status, headers, _ = wire.answer()
        assert (status, headers["modelmill-version"]) == (200, version)
    wire.send(request(path="/v2/models/none/infer"))
    assert wire.answer()[0] == 404
    assert shorts == []


def test_every_answer_is_counted(registry):
    with Service(registry, ["flowers"]) as service:
        wire = Wire(service.url)
        for sent in (request(), request(), request(b"{")):
            wire.send(sent)
            wire.answer()
        wire.send(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
        text = wire.answer()[2].decode()
        labels = 'model="flowers",version="1",face="v2"'
        assert f'modelmill_requests_total{{{labels},code="200"}} 2' in text
        assert f'modelmill_requests_total{{{labels},code="400"}} 1' in text
        wire.file.close()
        wire.socket.close()


def test_a_drained_service_closes_connections_that_took_the_short_way(registry):
    service = Service(registry, ["flowers"])
    with service:
        wire = Wire(service.url)
        wire.send(request())
        assert wire.answer()[0] == 200
    assert wire.file.read() == b""
    wire.file.close()
    wire.socket.close()


def test_a_client_that_does_not_read_its_answer_is_let_go_of(registry, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    body = json.dumps([[3, 1]] * 60_000).encode()
    with Service(registry, ["flowers"]) as service:
        wire = Wire(service.url)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connections = service.server.server_state.connections
        wire.send(request(body, "/predict/flowers"))
        end = time.monotonic() + 20
        while not connections and time.monotonic() < end:
            time.sleep(0.01)
        while connections and time.monotonic() < end:
            time.sleep(0.02)
        assert not connections
        wire.file.close()
        wire.socket.close()


def test_a_body_that_follows_its_head_takes_the_short_way(wire, shorts):
    """As most clients send: the head in one piece, the body in the next."""
    head, _, body = request().partition(b"\r\n\r\n")
    for _ in range(2):
        wire.send(head + b"\r\n\r\n")
        time.sleep(0.05)
        wire.send(body[:9])
        time.sleep(0.05)
        wire.send(body[9:])
        assert wire.answer()[0] == 200
    assert shorts == [True, True]


def test_a_body_that_does_not_come_is_given_up_as_on_the_ordinary_way(registry, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr("modelmill.serve.web.http.BODY_SECONDS", 0.2)
    with Service(registry, ["flowers"]) as service:
        wire = Wire(service.url)
        wire.send(request()[:-5])
        status, _, answer = wire.answer()
        assert (status, wire.file.read()) == (408, b"")
        assert b"does not come in time" in answer
        wire.file.close()
        wire.socket.close()


def test_the_services_limit_holds_on_the_short_way_too(registry):
    with Service(registry, ["flowers"], limits=Limits(body_bytes=len(BODY))) as service:
        wire = Wire(service.url)
        for _ in range(2):
            wire.send(request())
            assert wire.answer()[0] == 200
        wire.send(request(BODY + b" "))
        status, _, answer = wire.answer()
        assert (status, b"the limit is" in answer) == (413, True)
        wire.file.close()
        wire.socket.close()


@pytest.fixture
def single(registry):
    """A service of one thread, whose model waits on it; a connection; and what opens."""
    with Service(registry, ["flowers"], limits=Limits(capacity=Capacity(threads=1))) as service:
        wire, slow = Wire(service.url), slowed(service)
        yield service, wire, slow
        slow.gate.set()
        wire.file.close()
        wire.socket.close()


def running(service):
    return service.server.engine.running


def test_what_runs_on_a_thread_is_answered_as_on_the_ordinary_way(single, shorts):
    service, wire, slow = single
    slow.gate.set()
    wire.send(request())
    short = wire.answer()
    wire.send(request(connection="close"))
    status, headers, body = wire.answer()
    assert (shorts, headers.pop("connection")) == ([True], "close")
    assert (status, headers, body) == short
    assert json.loads(body)["outputs"][0]["data"] == ["long", "wide"]
    assert service.server.state.in_flight == 0


def test_what_comes_while_an_answer_is_waited_for_is_answered_after_it(single, shorts):
    service, wire, slow = single
    wire.send(request())
    assert eventually(lambda: running(service) == 1)
    wrong = request(b'{"inputs": []}')
    wire.send(wrong + request())
    time.sleep(0.05)
    wire.send(b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n" + request()[:40])
    time.sleep(0.05)
    wire.send(request()[40:])
    slow.gate.set()
    assert [wire.answer()[0] for _ in range(5)] == [200, 400, 200, 200, 200]
    assert shorts[0]


def test_no_more_is_taken_than_fits_while_an_answer_is_waited_for(single):
    service, wire, slow = single
    wire.send(request())
    assert eventually(lambda: running(service) == 1)
    (connection,) = service.server.server_state.connections
    many = 4000
    sender = threading.Thread(target=wire.send, args=(request() * many,), daemon=True)
    sender.start()
    assert eventually(lambda: len(connection.next) > protocol.NEXT_MOST)
    time.sleep(0.1)
    assert len(connection.next) <= protocol.NEXT_MOST + 300_000
    slow.gate.set()
    assert {wire.answer()[0] for _ in range(many + 1)} == {200}
    sender.join(10)


def test_whoever_leaves_takes_a_request_of_the_short_way_out_of_the_engine(single, shorts):
    service, wire, _ = single
    wire.send(request())
    assert eventually(lambda: running(service) == 1)
    waiting = Wire(service.url)
    waiting.send(request())
    assert eventually(lambda: service.server.engine.waiting == 1)
    for leaving in (waiting, wire):
        leaving.file.close()
        leaving.socket.close()
    engine = service.server.engine
    assert eventually(lambda: engine.waiting == 0 and engine.running == 0)
    assert eventually(lambda: service.server.state.in_flight == 0)
    assert service.server.catalogue.served["flowers"].in_flight == 0
    codes = {code for _, code in service.server.signals.figures.of("flowers", "1")._answers}
    assert (shorts, codes) == ([True, True], {499})


def test_what_the_engine_refuses_or_fails_at_is_said_in_words_once(single):
    service, wire, slow = single
    tensors = json.loads(BODY)
    soon = json.dumps({**tensors, "parameters": {"timeout": 20_000}}).encode()
    wire.send(request(soon))
    status, _, answer = wire.answer()
    assert (status, json.loads(answer)["error"].partition(":")[0]) == (504, "timeout")
    assert eventually(lambda: running(service) == 0)
    slow.fails = True
    slow.gate.set()
    wire.send(request())
    status, _, answer = wire.answer()
    assert (status, json.loads(answer)) == (500, {"error": "the model failed: the model broke"})
    service.server.engine.capacity = Capacity(threads=1, waiting=0)
    slow.gate.clear()
    wire.send(request())
    assert eventually(lambda: running(service) == 1)
    other = Wire(service.url)
    other.send(request())
    status, headers, answer = other.answer()
    assert (status, headers["retry-after"]) == (429, "1")
    other.file.close()
    other.socket.close()
    figures = service.server.signals.figures.of("flowers", "1")
    assert sorted(code for _, code in figures._answers) == [429, 500, 504]


def test_a_drain_answers_what_is_waited_for_and_ends_its_connection(single):
    service, wire, slow = single
    wire.send(request())
    assert eventually(lambda: running(service) == 1)
    service.server.drain()
    assert eventually(lambda: service.server.state.refusing)
    slow.gate.set()
    status, headers, _ = wire.answer()
    assert (status, headers["connection"], wire.file.read()) == (200, "close", b"")
    service.thread.join(10)
    assert not service.thread.is_alive()


def test_what_can_be_refused_without_its_body_is_not_waited_for(service):
    wire = Wire(service.url)
    wire.send(b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: 200000000\r\n\r\n{")
    status, _, answer = wire.answer()
    assert (status, b"the limit is" in answer) == (413, True)
    wire.file.close()
    wire.socket.close()


def test_a_body_that_is_on_its_way_at_the_end_is_waited_for(registry):
    with Service(registry, ["flowers"], limits=Limits(lead_seconds=0.0)) as service:
        wire = Wire(service.url)
        whole = request()
        wire.send(whole[:-10])
        (connection,) = eventually_one(service)
        assert eventually(lambda: connection.opening is not None)
        service.server.drain()
        assert eventually(lambda: service.server.state.refusing)
        wire.send(whole[-10:])
        assert wire.answer()[0] == 200
        wire.file.close()
        wire.socket.close()


def eventually_one(service):
    connections = service.server.server_state.connections
    assert eventually(lambda: len(connections) == 1)
    return tuple(connections)


def test_requests_in_flight_are_counted_once(single):
    service, wire, slow = single
    for ordinary in (False, True):
        slow.gate.clear()
        wire.send(request(connection="close") if ordinary else request())
        assert eventually(lambda: running(service) == 1)
        time.sleep(0.05)
        assert service.server.state.in_flight == 1
        slow.gate.set()
        assert wire.answer()[0] == 200
        assert eventually(lambda: service.server.state.in_flight == 0)


def test_a_failure_is_logged_with_the_trace_of_its_caller(registry, tmp_path):
    log = tmp_path / "access.jsonl"
    with Service(registry, ["flowers"], telling=Telling(log, 0.0)) as service:
        slow = slowed(service)
        slow.fails = True
        slow.gate.set()
        wire = Wire(service.url)
        wire.send(request(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        assert wire.answer()[0] == 500
        wire.file.close()
        wire.socket.close()
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["trace"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("path", [PATH, "/predict/flowers"])
def test_what_takes_longer_than_the_end_may_is_told_so(registry, path):
    limits = Limits(capacity=Capacity(threads=1), lead_seconds=0.0, drain_seconds=0.3)
    with Service(registry, ["flowers"], limits=limits) as service:
        slow = slowed(service)
        wire = Wire(service.url)
        wire.send(request(BODY if path == PATH else b"[[3, 1]]", path))
        assert eventually(lambda: running(service) == 1)
        service.server.drain()
        status, headers, answer = wire.answer()
        assert (status, headers["connection"]) == (503, "close")
        assert "has ended before the answer" in json.loads(answer)["error"]
        assert wire.file.read() == b""
        slow.gate.set()
        wire.file.close()
        wire.socket.close()
