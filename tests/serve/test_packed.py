"""Bodies that come packed: inflated as they were before, no further than they may be, and off the loop if long."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import struct
import threading
import zlib
from urllib.parse import urlsplit

import pytest

from modelmill.errors import Overloaded, RequestError
from modelmill.serve import packed
from modelmill.serve.access.access import Access
from modelmill.serve.access.keys import Keys
from modelmill.serve.packed import Room, inflated
from modelmill.serve.request import LONG_BYTES
from modelmill.serve.server import Limits, Service
from modelmill.store.home import Home

INFER = "/v2/models/flowers/infer"


def bare(data):
    """What some send as deflate: without zlib's head and sum."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


WAYS = [("gzip", gzip.compress), ("X-GZip", gzip.compress), ("deflate", zlib.compress), ("Deflate", bare)]


@pytest.fixture
def send(service):
    """Sends a body that is packed; gives the code and the body of the answer."""
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)

    def call(path, encoding, body, headers=(), at=connection):
        at.request("POST", path, body, {"Content-Encoding": encoding, **dict(headers)})
        response = at.getresponse()
        return response.status, response.read()

    yield call
    connection.close()


def rows(count):
    return json.dumps([[3, 1]] * count).encode()


@pytest.mark.parametrize(("encoding", "pack"), WAYS)
@pytest.mark.parametrize("count", [2, 20_000])
def test_rows_are_taken_in_every_way_of_packing(send, encoding, pack, count):
    code, body = send("/predict/flowers", encoding, pack(rows(count)))
    assert code == 200
    assert [one["label"] for one in json.loads(body)["predictions"]] == ["long"] * count


@pytest.mark.parametrize(("encoding", "pack"), WAYS)
def test_the_length_before_tensors_counts_in_what_was_packed(send, encoding, pack):
    tensor = {"datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [{"name": name, **tensor} for name in ("length", "width")]}).encode()
    body = head + struct.pack("<4f", 3, 1, 1, 3)
    code, answer = send(INFER, encoding, pack(body), {"Inference-Header-Content-Length": str(len(head))})
    assert code == 200
    assert {one["name"]: one["data"] for one in json.loads(answer)["outputs"]}["label"] == ["long", "wide"]


@pytest.mark.parametrize(("encoding", "pack"), WAYS)
@pytest.mark.parametrize("path", ["/predict/flowers", INFER])
def test_what_cannot_be_inflated_is_a_bad_request_that_says_so(send, encoding, pack, path):
    name = encoding.lower().removeprefix("x-")
    whole = pack(rows(1000))
    for body, said in (
        (whole[:-9], f"body: is no whole {name}: its end is missing"),
        (b"", f"body: is no whole {name}"),
        (b"\xff" * 100, f"body: is no {name} that can be read"),
        (whole + whole, f"body: goes on for {len(whole)} bytes after the end of its {name}"),
    ):
        code, answer = send(path, encoding, body)
        assert code == 400
        assert said in json.loads(answer)["error"]


def test_a_damaged_sum_is_noticed():
    whole = gzip.compress(b"abc" * 100)
    for damaged in (whole[:-1] + b"\1", whole[:-8] + b"\0\0\0\0" + whole[-4:]):
        with pytest.raises(RequestError, match="is no gzip that can be read"):
            inflated("body", damaged, "gzip", 1000)


def test_other_ways_and_other_requests_are_refused(send):
    code, answer = send("/predict/flowers", "br", b"x")
    assert (code, b"only identity, gzip, deflate" in answer) == (415, True)
    code, answer = send("/v2/repository/index", "gzip", gzip.compress(b"{}"))
    assert (code, b"'gzip' is not taken, only identity" in answer) == (415, True)


class Inflating:
    """Inflates, and remembers in which threads, and how much was allowed."""

    def __init__(self, monkeypatch):
        self.inflated = packed.inflated
        self.seen = []
        monkeypatch.setattr(packed, "inflated", self)

    def __call__(self, where, data, encoding, most_bytes):
        self.seen.append((threading.get_ident(), most_bytes))
        return self.inflated(where, data, encoding, most_bytes)


def test_what_is_long_is_inflated_off_the_loop(service, send, monkeypatch):
    """On the loop no more than what is short anyway, and so much of a long one only as shows that it is."""
    inflating = Inflating(monkeypatch)
    for count in (1, 20_000):
        assert send("/predict/flowers", "gzip", gzip.compress(rows(count)))[0] == 200
    loop = service.thread.ident
    assert [most for thread, most in inflating.seen if thread == loop] == [LONG_BYTES, LONG_BYTES]
    assert len([most for thread, most in inflating.seen if thread != loop]) == 1


def test_a_bomb_ends_at_the_limit(registry, send, monkeypatch):
    inflating = Inflating(monkeypatch)
    bomb = gzip.compress(bytes(20_000_000))
    with Service(registry, limits=Limits(body_bytes=1_000_000)) as service:
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
        for path in ("/predict/flowers", INFER):
            code, answer = send(path, "gzip", bomb, at=connection)
            assert code == 413
            assert "has more than 1000000 bytes when it is inflated" in json.loads(answer)["error"]
        assert send("/predict/flowers", "gzip", gzip.compress(rows(2)), at=connection)[0] == 200
        connection.close()
    assert max(most for _, most in inflating.seen) == 1_000_000


def test_nothing_is_inflated_before_it_is_known_who_sends_it(tmp_path, registry, send, monkeypatch):
    place = Home(tmp_path)
    keys = Keys(place.database)
    keys.tenant("small", "basic")
    secret, _ = keys.create("phone", tenant="small")
    inflating = Inflating(monkeypatch)
    bomb = gzip.compress(bytes(2_000_000))
    with Service(registry, access=Access(place.database, place.path)) as service:
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
        assert send("/predict/flowers", "gzip", bomb, at=connection)[0] == 401
        assert not inflating.seen
        assert send("/predict/flowers", "gzip", bomb, {"X-API-Key": secret}, connection)[0] == 413
        connection.close()
    assert max(most for _, most in inflating.seen) == 1_000_000


def test_one_sender_has_so_many_bytes_inflated_at_a_time(monkeypatch):
    monkeypatch.setattr(packed, "HELD_BYTES", 250_000)
    data = gzip.compress(bytes(100_000))

    async def run():
        room = Room()
        taken = [await room.take("body", data, "gzip", 1_000_000) for _ in range(2)]
        with pytest.raises(Overloaded, match="those that wait have 200000 bytes"):
            await room.take("body", data, "gzip", 1_000_000)
        room.give_back(len(taken[0]))
        await room.take("body", data, "gzip", 1_000_000)
        alone = Room()
        assert len(await alone.take("body", gzip.compress(bytes(300_000)), "gzip", 1_000_000)) == 300_000

    asyncio.run(run())


@pytest.mark.parametrize("last", [b"", b"]"])
def test_what_was_inflated_is_given_back_with_its_answer(send, monkeypatch, last):
    """Also where that is a refusal."""
    monkeypatch.setattr(packed, "HELD_BYTES", 300_000)
    body = gzip.compress(rows(20_000) + last)
    assert [send("/predict/flowers", "gzip", body)[0] for _ in range(4)] == [400 if last else 200] * 4
