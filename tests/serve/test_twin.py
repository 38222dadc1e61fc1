"""Two versions are compared on sessions that nobody asks: the one that answers is quicker, for what it just ran."""

from __future__ import annotations

import gc
import http.client
import json
import sys
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
from patience import eventually

from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.runtime.memory import give_back, resident_bytes
from modelmill.runtime.session import Session
from modelmill.serve.models.catalogue import Keeping
from modelmill.serve.models.residents import LEAST_BYTES, Budget
from modelmill.serve.routers.shadow import Shadow
from modelmill.serve.server import Limits, Service
from modelmill.serve.traffic.book import Book, key_of
from modelmill.serve.traffic.counts import Counts
from modelmill.serve.traffic.rollout import Plan
from modelmill.serve.traffic.start import route, start
from modelmill.signature import Field, Signature

QUICK = Limits(watch_seconds=0.02)
LONG = Plan(pairs=10**9)


@pytest.fixture
def flowers(empty_registry, publish_flowers):
    """A registry with two versions that answer alike."""
    for _ in range(2):
        publish_flowers(empty_registry)
    return empty_registry


@contextmanager
def asked(url):
    """Requests without pause, while the block runs."""
    stop = threading.Event()

    def ask():
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        while not stop.is_set():
            connection.request("POST", "/predict/flowers", json.dumps([[3, 1]]))
            connection.getresponse().read()
        connection.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


def watched(service, name="flowers"):
    """The watch of the model, once the two are compared."""
    found = []

    def is_armed():
        watch = service.server.traffic.watches.get(name)
        found[:] = [] if watch is None or watch.candidate is None else [watch]
        return found

    assert eventually(is_armed)
    return found[0]


def beside(service):
    """The bytes of what is in memory and answers nobody, in use or not."""
    residents = service.server.catalogue.residents
    gc.collect()
    with residents.lock:
        return residents.used() - sum(residents.sizes.values()) - sum(residents.reserved.values())


def begin_rollout(registry):
    start(registry, "flowers@2", LONG)


def begin_shadow(registry):
    route(registry, "flowers", Shadow(candidate="2").as_table())


@pytest.mark.parametrize("begin", [begin_rollout, begin_shadow])
def test_copies_run_on_sessions_that_take_no_requests(flowers, begin, monkeypatch):
    begin(flowers)
    with Service(flowers, limits=QUICK) as service:
        mirror, taken = service.server.traffic.mirror, []
        take = mirror.take

        def seen(copy, live, candidate, *rest):
            taken.append((live, candidate))
            take(copy, live, candidate, *rest)

        monkeypatch.setattr(mirror, "take", seen)
        watch = watched(service)
        with asked(service.url):
            assert eventually(lambda: len(taken) >= 5 and watch.meter.read().pairs >= 5)
        live, candidate = service.server.catalogue.find("flowers"), service.server.catalogue.find("flowers@2")
    assert {id(one) for _, one in taken} == {id(candidate.lane.session)}
    assert id(live.lane.session) not in {id(one) for one, _ in taken}
    assert all(isinstance(one, Session) for one, _ in taken)


def test_its_bytes_count_while_the_two_are_compared(flowers):
    start(flowers, "flowers@2", LONG)
    with Service(flowers, limits=QUICK) as service:
        watch = watched(service)
        assert LEAST_BYTES <= beside(service) < 2 * LEAST_BYTES
        del watch
        Book(flowers.database).abort("flowers")
        assert eventually(lambda: beside(service) == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_it_lets_go_of_what_its_largest_run_needed_when_the_live_one_does(empty_registry):
    """A run of many rows makes a session keep memory for as many; `shrink` gives it back, and so that of both."""
    fields, outputs = (Field("x", "FP32"),), (Field("y", "FP32"),)
    writer = Writer()
    writer.rename(writer.op("Exp", [writer.op("Sin", ["x"])]), "y")
    onnx = to_onnx(writer.fragment(), fields, outputs)
    for _ in range(2):
        empty_registry.publish("wave", {"model.onnx": onnx}, Signature("compute", fields, outputs))
    start(empty_registry, "wave@2", LONG)
    with Service(empty_registry, limits=QUICK) as service:
        watch = watched(service, "wave")
        columns = {"x": np.zeros(8_000_000, np.float32)}
        before = resident_bytes()
        watch.twin().run(columns)
        give_back()
        assert resident_bytes() > before + 20_000_000
        service.server.catalogue.present("wave").shrink()
        give_back()
        assert resident_bytes() < before + 10_000_000


def test_where_there_is_no_room_the_live_one_stands_for_itself(flowers):
    start(flowers, "flowers@2", LONG)
    keeping = Keeping(budget=Budget(most_bytes=int(2.5 * LEAST_BYTES)))
    with Service(flowers, limits=Limits(watch_seconds=0.02, keeping=keeping)) as service, asked(service.url):
        watch = watched(service)
        assert watch.twin is None
        assert eventually(lambda: watch.meter.read().pairs >= 5)
        assert sorted(service.server.catalogue.residents.held) == [("flowers", 1), ("flowers", 2)]


def test_a_candidate_for_which_there_is_no_room_takes_none_from_the_live_version(flowers):
    """The room is for one: the rollout waits, and says for what; nobody's request does."""
    rollout = start(flowers, "flowers@2", Plan(pairs=1, seconds=0))
    keeping = Keeping(budget=Budget(most_bytes=int(1.5 * LEAST_BYTES)))
    with Service(flowers, limits=Limits(watch_seconds=0.02, keeping=keeping)) as service:
        live = service.server.catalogue.find("flowers")
        with asked(service.url):
            book = Book(flowers.database)
            counted = Counts()
            assert eventually(lambda: book.counts(key_of(rollout)).get(0, counted).crowded.startswith("flowers@2"))
            turn = service.server.traffic.turned_s
            assert eventually(lambda: service.server.traffic.turned_s > turn)
        assert service.server.catalogue.present("flowers") is live
        assert list(service.server.catalogue.residents.held) == [("flowers", 1)]
        assert book.latest()[0].state == "running"


def test_it_makes_room_for_what_is_asked_for_and_is_not_opened_again(flowers, publish_flowers):
    publish_flowers(flowers, "other")
    start(flowers, "flowers@2", LONG)
    keeping = Keeping(budget=Budget(most_bytes=int(3.5 * LEAST_BYTES)), eager=0)
    with Service(flowers, ["flowers", "other"], limits=Limits(watch_seconds=0.02, keeping=keeping)) as service:
        assert isinstance(watched(service).twin(), Session)
        service.server.catalogue.find("other")
        residents = service.server.catalogue.residents
        assert sorted(residents.held) == [("flowers", 1), ("flowers", 2), ("other", 1)]
        assert eventually(lambda: beside(service) == 0)
        residents.drop(("other", 1))
        with asked(service.url):
            pairs = watched(service).meter.read().pairs
            assert eventually(lambda: watched(service).meter.read().pairs >= pairs + 5)
        assert watched(service).twin() is None
        assert residents.used() == sum(residents.sizes.values())


def test_another_is_opened_when_the_live_one_changes_its_session(flowers):
    start(flowers, "flowers@2", LONG)
    with Service(flowers, limits=QUICK) as service:
        first = watched(service).twin
        assert isinstance(first(), Session)
        turn = id(service.server.traffic.watches["flowers"])
        assert eventually(lambda: id(service.server.traffic.watches["flowers"]) != turn)
        assert watched(service).twin is first
        version = service.server.catalogue.version("flowers")
        service.server.catalogue.present("flowers").lane.session = Session(flowers.file(version, "model.onnx"))
        assert eventually(lambda: watched(service).twin is not first)
        assert eventually(lambda: gc.collect() >= 0 and first() is None)
        assert isinstance(watched(service).twin(), Session)
        assert beside(service) < 2 * LEAST_BYTES
