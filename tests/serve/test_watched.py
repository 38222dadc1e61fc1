"""A route or a rollout keeps small requests on the short way, where each is picked, answered and counted once."""

from __future__ import annotations

from collections import Counter
from random import Random

import grpc
import msgspec
import pytest
from slow import slowed
from wires import request

from modelmill.client import Client
from modelmill.errors import ModelError
from modelmill.protocol.schema import schema
from modelmill.serve.routers.blue_green import BlueGreen
from modelmill.serve.routers.canary import Canary
from modelmill.serve.routers.header import Header
from modelmill.serve.rpc import express as rpc
from modelmill.serve.server import Limits, Service
from modelmill.serve.traffic.meter import Meter
from modelmill.serve.traffic.traffic import SILENT, Watch
from modelmill.signature import Field

INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def service(empty_registry, publish_flowers):
    """Two versions of flowers, the first of which is live; nothing is looked up while a test runs."""
    for _ in range(2):
        publish_flowers(empty_registry)
    with Service(empty_registry, ["flowers"], limits=Limits(watch_seconds=600.0), grpc_port=0) as service:
        with Client(service.url) as client:
            client.predict("flowers@2", [[3, 1]])
        yield service


def watched(service, router):
    """Let a router pick, and what comes of it be counted; the meter, and the second version's endpoint."""
    candidate = service.server.catalogue.present("flowers@2")
    labels = {"live": 1, "1": 1, "2": 2}
    watch = Watch("flowers", "test", router, labels, 1, None, candidate, Meter(SILENT, Random(0)))
    service.server.traffic.watches = {"flowers": watch}
    return watch.meter, candidate


class Broken:
    """A session that fails."""

    def __init__(self, error=None):
        self.error = error or ModelError("run", "the model broke", "")

    def run(self, columns, outputs=None, stop=None):
        raise self.error


def flower(name="flowers", **rest):
    tensor = {"datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [3.0]}}
    inputs = [{"name": name, **tensor} for name in ("length", "width")]
    return schema().encode("inference.ModelInferRequest", {"model_name": name, "inputs": inputs, **rest})


def ask(wire, **headers):
    wire.send(request(**headers))
    return wire.answer()


def test_a_part_of_the_requests_goes_to_another_version(service, wire, shorts):
    meter, _ = watched(service, Canary(candidate="2", percent=50))
    versions = Counter(ask(wire)[1]["modelmill-version"] for _ in range(400))
    assert all(shorts)
    assert set(versions) == {"flowers@1", "flowers@2"}
    assert 140 < versions["flowers@2"] < 260
    counts = meter.read()
    assert (counts.live, counts.candidate) == (versions["flowers@1"], versions["flowers@2"])


@pytest.mark.parametrize("heavy", [False, True], ids=["on the loop", "on a thread"])
def test_a_version_that_is_asked_for_answers_whatever_is_picked_and_is_not_counted(service, wire, shorts, heavy):
    meter, _ = watched(service, Canary(candidate="2", percent=100))
    if heavy:
        slowed(service, "flowers").gate.set()
    for path in ("/v2/models/flowers/versions/1/infer", "/v2/models/flowers@1/infer"):
        assert ask(wire, path=path)[1]["modelmill-version"] == "flowers@1"
    assert shorts == [True, True]
    with grpc.insecure_channel(service.grpc_url) as channel:
        answer = channel.unary_unary(INFER)(flower(model_version="1"), timeout=20)
    assert schema().decode("inference.ModelInferResponse", answer)["model_version"] == "1"
    counts = meter.read()
    assert (counts.live, counts.candidate) == (0, 0)
    assert ask(wire)[1]["modelmill-version"] == "flowers@2"
    assert meter.read().candidate == 1


def test_a_header_picks_and_one_that_cannot_be_followed_is_answered_in_words(service, wire, shorts):
    watched(service, Header(header="x-use"))
    assert ask(wire, x_use="2")[1]["modelmill-version"] == "flowers@2"
    assert ask(wire, x_use="1")[1]["modelmill-version"] == "flowers@1"
    assert ask(wire)[1]["modelmill-version"] == "flowers@1"
    assert shorts == [True, True, True]
    assert ask(wire, x_use="9")[0] == 404
    wire.send(request(x_use="2").replace(b"x-use: 2", b"x-use: 2\r\nx-use: 1"))
    status, _, body = wire.answer()
    assert status == 400
    assert b"comes twice" in body


@pytest.mark.parametrize("heavy", [False, True], ids=["on the loop", "on a thread"])
def test_a_failure_is_counted_once_and_is_nobody_elses(service, wire, shorts, heavy):
    """A version that fails is not asked again, nor is another one in its place."""
    meter, candidate = watched(service, Canary(candidate="2", percent=100))
    if heavy:
        slowed(service, "flowers@2").gate.set()
    candidate.lane.session = Broken()
    for _ in range(5):
        status, headers, body = ask(wire)
        assert status == 500
        assert b"the model broke" in body
        assert headers["modelmill-version"] == "flowers@2"
    assert shorts == [True] * 5
    counts = meter.read()
    assert (counts.candidate, counts.candidate_failed, counts.live) == (5, 5, 0)


@pytest.mark.parametrize("heavy", [False, True], ids=["on the loop", "on a thread"])
def test_grpc_keeps_the_short_way_too(service, monkeypatch, heavy):
    ordinary = []
    answer = rpc.Express.answer

    def told(self, *given):
        said = answer(self, *given)
        ordinary.append(said is None)
        return said

    monkeypatch.setattr(rpc.Express, "answer", told)
    meter, candidate = watched(service, Canary(candidate="2", percent=50))
    if heavy:
        slowed(service, "flowers@2").gate.set()
    message = flower()
    with grpc.insecure_channel(service.grpc_url) as channel:
        infer = channel.unary_unary(INFER)
        answers = [schema().decode("inference.ModelInferResponse", infer(message, timeout=20)) for _ in range(60)]
        found = Counter(answer["model_version"] for answer in answers)
        assert set(found) == {"1", "2"}
        candidate.lane.session = Broken()
        said = [infer.future(message, timeout=20).exception() for _ in range(40)]
        failed = sum(error is not None for error in said)
        assert all(error is None or "the model broke" in error.details() for error in said)
    assert not any(ordinary)
    counts = meter.read()
    assert counts.live + counts.candidate == 100
    assert counts.candidate == found["2"] + failed
    assert counts.candidate_failed == failed > 0


@pytest.mark.parametrize("short", [True, False], ids=["the short way", "the ordinary way"])
@pytest.mark.parametrize("error", [ModelError("run", "broke", ""), RuntimeError("a fault of ours")])
def test_a_failure_says_which_version_failed(service, wire, shorts, short, error):
    _, candidate = watched(service, Canary(candidate="2", percent=100))
    candidate.lane.session = Broken(error)
    wire.send(request(**({} if short else {"connection": "close"})))
    status, headers, _ = wire.answer()
    assert (status, headers["modelmill-version"], shorts) == (500, "flowers@2", [True] * short)


@pytest.mark.parametrize("way", ["on the loop", "on a thread", "the ordinary way"])
@pytest.mark.parametrize("error", [ModelError("run", "broke", ""), RuntimeError("a fault of ours")])
def test_a_call_that_fails_says_which_version_failed(service, way, error):
    """In its trailing metadata: there is no answer that could."""
    _, candidate = watched(service, Canary(candidate="2", percent=100))
    if way == "on a thread":
        slowed(service, "flowers@2")
    candidate.lane.session = Broken(error)
    metadata = (("traceparent", f"00-{'1' * 32}-{'2' * 16}-00"),) if way == "the ordinary way" else ()
    with grpc.insecure_channel(service.grpc_url) as channel:
        infer = channel.unary_unary(INFER)
        failed = infer.future(flower(), timeout=20, metadata=metadata).exception()
        assert failed.code() is grpc.StatusCode.INTERNAL
        assert dict(failed.trailing_metadata())["modelmill-version"] == "flowers@2"
        failed = infer.future(flower(inputs=[]), timeout=20, metadata=metadata).exception()
        assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert dict(failed.trailing_metadata())["modelmill-version"] == "flowers@2"
        failed = infer.future(flower("nobodys"), timeout=20, metadata=metadata).exception()
        assert (failed.code(), failed.trailing_metadata()) == (grpc.StatusCode.NOT_FOUND, ())


def test_a_refusal_says_which_version_was_picked_where_one_was(service, wire):
    watched(service, Canary(candidate="2", percent=100))
    wire.send(request(b'{"inputs": []}'))
    status, headers, _ = wire.answer()
    assert (status, headers["modelmill-version"]) == (400, "flowers@2")
    wire.send(request().replace(b"models/flowers", b"models/nobodys"))
    status, headers, _ = wire.answer()
    assert (status, headers.get("modelmill-version")) == (404, None)


def test_a_version_that_was_deleted_a_moment_ago_leaves_its_requests_to_the_live_one(service, wire, empty_registry):
    meter, _ = watched(service, BlueGreen(blue="1", green="2", active="green"))
    empty_registry.delete("flowers@2")
    service.server.catalogue.refresh()
    assert [ask(wire)[1].get("modelmill-version") for _ in range(3)] == ["flowers@1"] * 3
    message = flower()
    with grpc.insecure_channel(service.grpc_url) as channel:
        answer = schema().decode("inference.ModelInferResponse", channel.unary_unary(INFER)(message, timeout=20))
    assert answer["model_version"] == "1"
    assert meter.read().live == 4
    watched(service, Header(header="x-use"))
    assert ask(wire, x_use="2")[0] == 404  # who names a version gets that one or none


def test_where_one_version_cannot_be_had_at_once_the_ordinary_way_picks(service, wire, shorts):
    """Else a pipeline, or a version whose answers are long, would have to be picked twice in a row to be asked."""
    _, candidate = watched(service, BlueGreen(blue="1", green="2", active="blue"))
    assert ask(wire)[1]["modelmill-version"] == "flowers@1"
    candidate.steps = (None,)
    assert ask(wire)[1]["modelmill-version"] == "flowers@1"
    candidate.steps = ()
    assert ask(wire)[1]["modelmill-version"] == "flowers@1"
    outputs = (*candidate.signature.outputs, Field("more", "FP32", (-1, 20_000)))
    signature = msgspec.structs.replace(candidate.signature, outputs=outputs)
    candidate.version = msgspec.structs.replace(candidate.version, signature=signature)
    assert ask(wire)[1]["modelmill-version"] == "flowers@1"
    assert shorts == [True, False, True, False]


def test_a_fault_of_ours_in_one_call_leaves_the_others_of_its_connection(service, monkeypatch):
    def fails(*given):
        raise RuntimeError("a fault of ours")

    message = flower()
    slow = slowed(service)
    with grpc.insecure_channel(service.grpc_url) as channel:
        infer = channel.unary_unary(INFER)
        first = infer.future(message, timeout=20)
        assert slow.started.wait(20)
        monkeypatch.setattr(rpc.Express, "answer", fails)
        assert infer.future(message, timeout=20).exception().code() == grpc.StatusCode.INTERNAL
        slow.gate.set()
        assert first.exception() is None
