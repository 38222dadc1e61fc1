"""Two versions are compared on sessions that nobody asks: the one that answers is quicker, for what it just ran."""

from __future__ import annotations

import gc
import http.client
import json
import threading
import weakref
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from patience import eventually

from modelmill.runtime.session import Session
from modelmill.serve.models.catalogue import Keeping
from modelmill.serve.models.residents import LEAST_BYTES, Budget
from modelmill.serve.routers.shadow import Shadow
from modelmill.serve.server import Limits, Service
from modelmill.serve.traffic.book import Book
from modelmill.serve.traffic.rollout import Plan
from modelmill.serve.traffic.start import route, start

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


def watched(service):
    """The watch of the model, once the two are compared."""
    found = []

    def is_armed():
        watch = service.server.traffic.watches.get("flowers")
        found[:] = [] if watch is None or watch.candidate is None else [watch]
        return found

    assert eventually(is_armed)
    return found[0]


def beside(service):
    """The bytes of what is in memory and answers nobody."""
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


def test_where_there_is_no_room_the_live_one_stands_for_itself(flowers):
    start(flowers, "flowers@2", LONG)
    keeping = Keeping(budget=Budget(most_bytes=int(2.5 * LEAST_BYTES)))
    with Service(flowers, limits=Limits(watch_seconds=0.02, keeping=keeping)) as service, asked(service.url):
        watch = watched(service)
        assert watch.twin is None
        assert eventually(lambda: watch.meter.read().pairs >= 5)
        assert sorted(service.server.catalogue.residents.held) == [("flowers", 1), ("flowers", 2)]


def test_another_is_opened_when_the_live_one_changes_its_session(flowers):
    start(flowers, "flowers@2", LONG)
    with Service(flowers, limits=QUICK) as service:
        first = weakref.ref(watched(service).twin)
        assert isinstance(first(), Session)
        turn = id(service.server.traffic.watches["flowers"])
        assert eventually(lambda: id(service.server.traffic.watches["flowers"]) != turn)
        assert watched(service).twin is first()
        version = service.server.catalogue.version("flowers")
        service.server.catalogue.present("flowers").lane.session = Session(flowers.file(version, "model.onnx"))
        assert eventually(lambda: gc.collect() >= 0 and first() is None)
        assert isinstance(watched(service).twin, Session)
        assert beside(service) < 2 * LEAST_BYTES
