"""A basic tenant that floods the service beside an advanced one: its small requests wait, and are answered."""

from __future__ import annotations

import json
import socket
import threading
from urllib.parse import urlsplit

import pytest

from modelmill.serve.engine.turns import Turns

FLOOD = 16
BODY = json.dumps(
    {"inputs": [{"name": name, "datatype": "FP32", "shape": [1], "data": [3]} for name in ("length", "width")]}
).encode()


class Wire:
    """A kept connection of one key."""

    def __init__(self, url, key, path="/v2/models/flowers/infer", body=BODY):
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self.file = self.socket.makefile("rb")
        lines = (f"POST {path} HTTP/1.1", "host: localhost", f"authorization: Bearer {key}")
        self.request = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body

    def send(self):
        self.socket.sendall(self.request)

    def status(self):
        status, length = int(self.file.readline().split()[1]), 0
        while (line := self.file.readline().lower()) not in (b"\r\n", b""):
            if line.startswith(b"content-length"):
                length = int(line.split(b":")[1])
        self.file.read(length)
        return status

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def waited(monkeypatch):
    """The payers of requests that had to wait."""
    found = []
    put = Turns.put

    def watched(self, terms, work):
        found.append(terms.payer)
        put(self, terms, work)

    monkeypatch.setattr(Turns, "put", watched)
    return found


@pytest.mark.parametrize(
    ("path", "body"), [("/v2/models/flowers/infer", BODY), ("/predict/flowers", b"[[3, 1]]")], ids=["short", "ordinary"]
)
@pytest.mark.usefixtures("quick")
def test_who_floods_waits_and_everybody_is_answered(start, keys, waited, path, body):
    keys.tenant("small", "basic")
    flooding, steady = keys.create("device", tenant="small")[0], keys.create("web")[0]
    service = start()
    flood = [Wire(service.url, flooding, path, body) for _ in range(FLOOD)]
    one = Wire(service.url, steady, path, body)
    statuses, over = [], threading.Event()

    def send():
        while not over.is_set():
            for wire in flood:
                wire.send()
            statuses.extend(wire.status() for wire in flood)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(400):
            one.send()
            assert one.status() == 200
    finally:
        over.set()
        sender.join()
        for wire in (*flood, one):
            wire.close()
    assert set(statuses) == {200}
    assert "small" in waited
    assert waited.count("default") < len(waited) / 10
