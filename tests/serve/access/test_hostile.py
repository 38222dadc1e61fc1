"""Requests that no client library would send: answered with words or closed, and the service goes on."""

from __future__ import annotations

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest

from modelmill.serve.server import Service
from modelmill.serve.web import http as web_http
from modelmill.serve.web import protocol

BODY = b"[[3, 1]]"


@pytest.fixture(scope="module")
def service(registry):
    with Service(registry) as service:
        yield service


def connected(service):
    host, port = urlsplit(service.url).netloc.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def everything(connection):
    """All that comes until the service closes the connection."""
    found = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return found
        if not piece:
            return found
        found += piece


def send(service, *lines, body=b""):
    with connected(service) as connection:
        connection.sendall("\r\n".join((*lines, "Connection: close", "", "")).encode("latin-1") + body)
        return everything(connection)


def lives(service):
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
    connection.request("POST", "/predict/flowers", BODY)
    assert json.loads(connection.getresponse().read())["predictions"][0]["label"] == "long"
    connection.close()


def post(*headers, path="/predict/flowers"):
    return (f"POST {path} HTTP/1.1", "Host: localhost", *headers)


@pytest.mark.parametrize(
    "lines",
    [
        post("Content-Length: 8", "Transfer-Encoding: chunked"),
        post("Transfer-Encoding: chunked", "Content-Length: 8"),
        post("Content-Length: 8", "Content-Length: 9"),
        post("Content-Length: +8"),
        post("Content-Length: 0x8"),
        post("Content-Length: -1"),
        post("Transfer-Encoding: chunked, identity"),
        post("Transfer-Encoding : chunked"),
        post("Content-Length: 8", "Transfer-Encoding: xchunked"),
        post("A: b\x00c", "Content-Length: 8"),
        post("A B: c", "Content-Length: 8"),
        ("POST /predict/flowers HTTP/9.9", "Host: localhost"),
        ("POST  /predict/flowers  HTTP/1.1", "Host: localhost"),
        ("\x16\x03\x01\x02\x00",),
    ],
)
def test_framing_that_two_servers_could_read_in_two_ways_is_refused(service, lines):
    smuggled = BODY + b"GET /v2/models/flowers HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found = send(service, *lines, body=smuggled)
    assert found.startswith(b"HTTP/1.1 400") or found == b"", found[:200]
    assert found.count(b"HTTP/1.1") <= 1
    lives(service)


@pytest.mark.parametrize(("count", "said"), [(200, b"HTTP/1.1 200"), (201, b"HTTP/1.1 400")])
def test_a_body_in_more_chunks_than_are_allowed_is_refused(service, monkeypatch, count, said):
    monkeypatch.setattr(protocol, "CHUNKS_MOST", 200)
    padding = count - len(BODY) - 1
    pieces = [b" "] * padding + [BODY[i : i + 1] for i in range(len(BODY))]
    body = b"".join(b"1\r\n%s\r\n" % piece for piece in pieces) + b"0\r\n\r\n"
    found = send(service, *post("Transfer-Encoding: chunked"), body=body)
    assert found.startswith(said), found[:200]
    lives(service)


def test_what_follows_a_shorter_body_is_not_taken_for_it(service):
    with connected(service) as connection:
        head = "\r\n".join((*post("Content-Length: 8"), "", "")).encode()
        connection.sendall(head + BODY + b"}" * 100)
        found = everything(connection)
    assert found.count(b"HTTP/1.1 400") == 1
    assert found.count(b"HTTP/1.1 ") <= 2
    lives(service)


@pytest.mark.parametrize("start", [b"", b"POST /predict/flowers HTTP/1.1\r\nHost: localhost\r\nA: "])
def test_headers_that_never_come_end_the_connection(service, monkeypatch, start):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    with connected(service) as connection:
        connection.sendall(start)
        found = everything(connection)
    assert found.startswith(b"HTTP/1.1 408") if start else found == b""
    lives(service)


def test_headers_that_trickle_in_end_the_connection(service, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with connected(service) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n")
        connection.settimeout(0.05)
        found = b""
        for n in range(1000):
            try:
                connection.sendall(f"X-{n}: y\r\n".encode())
                found = connection.recv(1000)
                break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
    assert b" 408 " in found or found == b""
    lives(service)


@pytest.mark.parametrize("part", [b"", b"[["])
def test_a_body_that_never_comes_is_told(service, monkeypatch, part):
    monkeypatch.setattr(web_http, "BODY_SECONDS", 0.2)
    with connected(service) as connection:
        connection.sendall("\r\n".join((*post("Content-Length: 8"), "", "")).encode() + part)
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")
    lives(service)


def test_a_body_that_trickles_in_is_told(service, monkeypatch):
    monkeypatch.setattr(web_http, "BODY_SECONDS", 0.5)
    with connected(service) as connection:
        connection.sendall("\r\n".join((*post("Content-Length: 100000"), "", "")).encode())
        connection.settimeout(0.05)
        for _ in range(1000):
            try:
                connection.sendall(b" ")
                found = connection.recv(1000)
                break
            except TimeoutError:
                continue
    assert found.startswith(b"HTTP/1.1 408")
    lives(service)


def slowly(connection, piece):
    """All that comes while a piece is sent again and again, until the service closes the connection."""
    connection.settimeout(0.05)
    found = b""
    for _ in range(2000):
        try:
            connection.sendall(piece)
            came = connection.recv(1000)
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return found
        if not came:
            return found
        found += came
    raise AssertionError(f"the connection is open still, after {found}")


def test_who_trickles_on_after_the_refusal_of_a_body_is_let_go_of(service, monkeypatch):
    monkeypatch.setattr(web_http, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(web_http, "LINGER_SECONDS", 0.2)
    with connected(service) as connection:
        connection.sendall("\r\n".join((*post("Content-Length: 100000"), "", "")).encode())
        found = slowly(connection, b" ")
    assert found.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in found
    lives(service)


def test_who_trickles_on_after_another_answer_is_let_go_of(service, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    with connected(service) as connection:
        connection.sendall("\r\n".join((*post("Content-Length: 100000", path="/v2/nowhere"), "", "")).encode())
        found = slowly(connection, b" ")
    assert found.startswith(b"HTTP/1.1 404")
    assert found.count(b"HTTP/1.1") == 1
    lives(service)


@pytest.mark.parametrize("path", ["index", "models/flowers/load", "models/flowers/unload"])
def test_a_body_that_asks_for_no_prediction_is_small_and_its_refusal_is_heard(service, path):
    """The whole of a large body is sent: a client that does not look before is not cut off, either."""
    body = b'{"x": [' + b'":",' * 2_000_000 + b"1]}"
    found = send(service, *post(f"Content-Length: {len(body)}", path=f"/v2/repository/{path}"), body=body)
    assert found.startswith(b"HTTP/1.1 413")
    assert b"the limit is 65536" in found
    assert b"connection: close" in found
    lives(service)


def test_a_body_over_the_limit_that_came_whole_keeps_its_connection(service):
    chunk = b"%x\r\n%s\r\n" % (70_000, b" " * 70_000)
    head = "\r\n".join((*post("Transfer-Encoding: chunked", path="/v2/repository/index"), "", "")).encode()
    with connected(service) as connection:
        connection.sendall(head + chunk + b"0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_ranges_change_nothing(service):
    ranges = ",".join(f"{n}-{n}" for n in range(5000))
    for path in ("/docs", "/v2", "/metrics"):
        found = send(service, f"GET {path} HTTP/1.1", "Host: localhost", f"Range: bytes={ranges}")
        assert found.startswith(b"HTTP/1.1 200")
        assert b"multipart" not in found
    lives(service)


def test_forms_and_packed_bodies_are_no_rows(service):
    parts = b"".join(b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % n for n in range(100_000))
    kind = "Content-Type: multipart/form-data; boundary=x"
    assert send(service, *post(kind, f"Content-Length: {len(parts)}"), body=parts).startswith(b"HTTP/1.1 415")
    for encoding, code in (("gzip", 400), ("deflate", 400), ("br", 415), ("gzip, gzip", 415), ("x-deflate", 415)):
        found = send(service, *post(f"Content-Encoding: {encoding}", "Content-Length: 8"), body=BODY)
        assert found.startswith(b"HTTP/1.1 %d" % code)
    for encoding in ("gzip, chunked", "deflate,chunked"):
        chunks = b"8\r\n%s\r\n0\r\n\r\n" % BODY
        found = send(service, *post(f"Transfer-Encoding: {encoding}"), body=chunks)
        assert found.startswith(b"HTTP/1.1 415")
    lives(service)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("GET /v2 HTTP/1.1",), b"Host: does not come"),
        (("GET /v2 HTTP/1.1", "Host: localhost", "Host: localhost"), b"Host: comes twice"),
        (("GET /v2 HTTP/1.0", "Host: localhost", "Host: localhost"), b"Host: comes twice"),
        (("GET /v2 HTTP/1.1", "Host: localhost", "A: " + "b" * 70_000), b"has more than 65,536 bytes of line"),
        (("GET /" + "v" * 70_000 + " HTTP/1.1", "Host: localhost"), b"has more than 65,536 bytes of line"),
        (("GET /v2 HTTP/1.1", "Host : localhost"), b"expected a line, headers, and a body"),
    ],
)
def test_a_head_that_is_not_taken_is_told_why(service, lines, said):
    found = send(service, *lines)
    assert found.startswith(b"HTTP/1.1 400")
    assert said in found
    lives(service)


def test_before_http_1_1_there_is_no_host(service):
    assert send(service, "GET /v2 HTTP/1.0").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "start",
    [
        ("GET /v2 HTTP/1.1", "Host: localhost", "A: "),
        post("Transfer-Encoding: chunked", "", "1;a="),
        post("Transfer-Encoding: chunked", "", "0", "A: "),
    ],
)
def test_a_line_without_end_is_not_kept(service, start):
    with connected(service) as connection:
        connection.sendall("\r\n".join(start).encode())
        found = slowly(connection, b"a" * 10_000)
    assert found.startswith(b"HTTP/1.1 400") or found == b""
    lives(service)


def test_what_is_said_after_a_body_is_no_header(service):
    chunks = b"8\r\n%s\r\n0\r\nContent-Type: text/csv\r\nContent-Encoding: gzip\r\n\r\n" % BODY
    assert send(service, *post("Transfer-Encoding: chunked"), body=chunks).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("length", ["\xb2", "1_0", "9" * 5000, "\xa02"])
def test_a_length_that_is_no_number_is_a_bad_request(service, length):
    lines = post(f"Inference-Header-Content-Length: {length}", "Content-Length: 2", path="/v2/models/flowers/infer")
    assert send(service, *lines, body=b"{}").startswith(b"HTTP/1.1 400")
    lives(service)


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2f",
        "..",
        "%00",
        "flowers%00",
        "%e2%80%ae" + "x" * 10,
        "%ff%fe",
        "a" * 4096,
        "flowers@" + "9" * 4000,
        "flowers@-1",
        "flowers@1.5",
        "flowers@..%2f",
        "flowers%0d%0aX-Injected: y",
        "@",
        "*",
        "acme-*",
    ],
)
def test_names_of_models_lead_nowhere_else(service, name):
    for line in (
        f"POST /predict/{name}",
        f"GET /v2/models/{name}",
        f"GET /api/models/{name}/report",
        f"GET /models/{name}",
    ):
        found = send(service, f"{line} HTTP/1.1", "Host: localhost", "Content-Length: 0")
        assert found.split()[1] in (b"400", b"404", b"405"), (line, found[:200])
        assert b"x-injected" not in found.lower().partition(b"\r\n\r\n")[0]
        assert b"root:" not in found
    lives(service)


def test_numbers_that_are_none_and_depth_without_end_are_bad_requests(service):
    hostile = [
        b'[{"length": NaN, "width": 1}]',
        b'[{"length": Infinity, "width": 1}]',
        b'[{"length": 1e400, "width": 1}]',
        b"[" * 10_000 + b"]" * 10_000,
        b'[{"length": {"a": ' * 2000,
        b"[[3, 1]",
        b"\xff\xfe[[3, 1]]",
    ]
    for body in hostile:
        found = send(service, *post(f"Content-Length: {len(body)}"), body=body)
        assert found.startswith(b"HTTP/1.1 400"), body[:40]
    tensors = [
        {"shape": [2**31, 2**31], "data": [1]},
        {"shape": [-1], "data": [1]},
        {"shape": [0], "data": []},
        {"shape": [2**63], "data": [1]},
        {"shape": [1.5], "data": [1]},
        {"shape": [2], "data": [1]},
        {"shape": [], "data": [1]},
    ]
    for tensor in tensors:
        inputs = [{"name": name, "datatype": "FP32", **tensor} for name in ("length", "width")]
        body = json.dumps({"inputs": inputs}).encode()
        found = send(service, *post(f"Content-Length: {len(body)}", path="/v2/models/flowers/infer"), body=body)
        assert found.startswith(b"HTTP/1.1 400"), tensor
    lives(service)


def test_keys_in_a_body_or_a_query_give_no_rights(service):
    for extra in ("?tier=advanced&role=admin", "?key=mm_0", "?user=root"):
        found = send(service, *post("Content-Length: 8", path=f"/predict/flowers{extra}"), body=BODY)
        assert found.startswith(b"HTTP/1.1 200")
    body = json.dumps([{"length": 3, "width": 1, "tier": "advanced", "owner": "root"}]).encode()
    assert send(service, *post(f"Content-Length: {len(body)}"), body=body).startswith(b"HTTP/1.1 400")
