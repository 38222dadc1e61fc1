"""Traffic in a running service: rollouts that go on or back by themselves, routes, and several servers on one home."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from patience import eventually

from modelmill.client import Client
from modelmill.errors import NotServed, RegistryError, UnknownModel, UsageError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.protocol.schema import schema
from modelmill.serve.handover import can_share
from modelmill.serve.routers.canary import Canary
from modelmill.serve.server import Limits, Service
from modelmill.serve.traffic.book import Book, flush, key_of
from modelmill.serve.traffic.counts import Counts, Tally
from modelmill.serve.traffic.rollout import Plan, advance
from modelmill.serve.traffic.start import route, start
from modelmill.serve.traffic.traffic import settle
from modelmill.serve.traffic.verdict import Tolerances
from modelmill.signature import Field, Signature
from modelmill.store import audit

QUICK = Limits(watch_seconds=0.02)
INFER = "/inference.GRPCInferenceService/ModelInfer"
ROWS = [[3, 1], [1, 3], [2, 1]]
LOOSE = Tolerances(slower=900, tail=900)
"""Nothing here is about time: the machine that tests run on does other things."""

SHORT = Plan(steps=(50, 100), pairs=20, requests=10, seconds=0, tolerances=LOOSE)


def numbers(scale=1.0, nan=False):
    """A model of one column that multiplies it, or takes its root."""
    fields = (Field("x", "FP32"),)
    writer = Writer()
    value = writer.op("Sqrt", ["x"]) if nan else writer.op("Mul", ["x", writer.constant(np.float32([scale]))])
    writer.rename(value, "value")
    outputs = (Field("value", "FP32"),)
    return to_onnx(writer.fragment(), fields, outputs), Signature("regress", fields, outputs, (), "y", (1.0,))


def pair(width):
    """A model of one column that gives it so many times."""
    fields, outputs = (Field("x", "FP32", (-1, 1)),), (Field("value", "FP32", (-1, width)),)
    writer = Writer()
    writer.rename(writer.op("Concat", ["x"] * width, {"axis": 1}), "value")
    return to_onnx(writer.fragment(), fields, outputs), Signature("compute", fields, outputs)


def publish_numbers(registry, *made):
    for model in made:
        onnx, signature = model
        registry.publish("numbers", {"model.onnx": onnx}, signature)


@pytest.fixture
def flowers(empty_registry, publish_flowers):
    """A registry with two versions of flowers that answer alike, and a third that answers the other way round."""
    for sign in (1, 1, -1):
        publish_flowers(empty_registry, sign=sign)
    return empty_registry


class Asking:
    """A client in a thread that asks without pause; it keeps what came."""

    def __init__(self, url, name="flowers", rows=ROWS, fresh=False):
        self.url, self.name, self.rows, self.fresh = url, name, rows, fresh
        self.versions: list[str] = []
        self.failed: list[str] = []
        self.mixed = 0
        self.reopened = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(20)

    def _run(self):
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        while not self.stop.is_set():
            try:
                connection.request("POST", f"/predict/{self.name}", json.dumps(self.rows))
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
                continue
            self.reopened += answer.headers.get("connection") == "close"
            if self.fresh:
                connection.close()
            if answer.status == 200:
                self.versions.append(answer.headers["modelmill-version"])
            else:
                self.failed.append(f"{answer.status} {body}")
        connection.close()


def call(url, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    given = {"content-type": "application/json"} if body is not None else {}
    connection.request(method, path, None if body is None else json.dumps(body), {**given, **(headers or {})})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read()), dict(answer.headers)
    connection.close()
    return found


def ended(registry, name="flowers"):
    return eventually(lambda: not Book(registry.database).running(name), 60)


def test_an_equal_version_takes_over_step_by_step_and_becomes_live(flowers):
    start(flowers, "flowers@2", SHORT)
    with Service(flowers, limits=QUICK) as service, Asking(service.url) as asking:
        assert ended(flowers)
        assert flowers.find("flowers").number == 2
        seen = len(asking.versions)
        assert eventually(lambda: asking.versions[seen + 5 :][-20:] == ["flowers@2"] * 20)
        changes = call(service.url, "GET", "/api/models/flowers/changes")[1]
    assert asking.failed == []
    steps = [at for at in reversed(changes["changes"]) if at["what"] == "rollout"]
    assert [(at["state"], at["percent"]) for at in steps] == [
        ("running", 0.0),
        ("running", 50.0),
        ("running", 100.0),
        ("done", 100.0),
    ]
    assert steps[1]["evidence"]["counts"]["pairs"] >= 20
    assert steps[1]["evidence"]["criteria"]["differ"]["against"] == 0
    assert steps[1]["evidence"]["latency"]["live_p50_ms"] > 0
    assert changes["live"] == 2


def test_answers_that_differ_lead_back_in_the_shadow_and_no_client_sees_them(flowers):
    rollout = start(flowers, "flowers@3", SHORT)
    with Service(flowers, limits=QUICK) as service, Asking(service.url) as asking:
        assert ended(flowers)
    found = Book(flowers.database).rollouts("flowers")[-1]
    assert (found.id, found.state) == (rollout.id, "rolled_back")
    assert "answers differ" in found.reason
    assert set(asking.versions) == {"flowers@1"}
    assert asking.failed == []
    assert flowers.find("flowers").number == 1


def test_a_version_whose_numbers_are_none_is_taken_back(empty_registry):
    publish_numbers(empty_registry, numbers(1.0), numbers(nan=True))
    start(empty_registry, "numbers@2", SHORT)
    with Service(empty_registry, limits=QUICK) as service, Asking(service.url, "numbers", [[-1.0]]) as asking:
        assert ended(empty_registry, "numbers")
    assert "it fails" in Book(empty_registry.database).rollouts("numbers")[-1].reason
    assert set(asking.versions) == {"numbers@1"}


def test_a_version_that_cannot_be_loaded_is_taken_back(flowers, flowers_signature):
    flowers.publish("flowers", {"model.onnx": b"broken"}, flowers_signature)
    start(flowers, "flowers@4", Plan(shadow=False, steps=(50, 100)))
    with Service(flowers, limits=QUICK) as service, Asking(service.url) as asking:
        assert ended(flowers)
    assert "cannot be loaded" in Book(flowers.database).rollouts("flowers")[-1].reason
    assert asking.failed == []
    assert set(asking.versions) == {"flowers@1"}


def test_a_rollout_goes_on_after_a_restart_where_it_was(flowers):
    start(flowers, "flowers@2", SHORT)
    with Service(flowers, limits=QUICK) as service, Asking(service.url):
        assert eventually(lambda: [at.step for at in Book(flowers.database).running()] != [0], 60)
    before = Book(flowers.database).latest()[0]
    assert before.step >= 1
    with Service(flowers, limits=QUICK) as service, Asking(service.url):
        assert ended(flowers)
    assert Book(flowers.database).latest()[0].state == "done"


def test_two_servers_agree_and_one_of_them_drives(flowers):
    with Service(flowers, limits=QUICK) as first, Service(flowers, limits=QUICK) as second:
        start(flowers, "flowers@2", Plan(steps=(50, 100), pairs=40, requests=40, seconds=0, tolerances=LOOSE))
        with Asking(first.url) as one, Asking(second.url) as other:
            assert eventually(lambda: first.server.traffic.watches and second.server.traffic.watches)
            assert ended(flowers)
            assert eventually(lambda: one.versions[-1:] == other.versions[-1:] == ["flowers@2"])
    assert one.failed == other.failed == []
    counted = Book(flowers.database)
    with counted.database.reading() as connection:
        servers = connection.rows("SELECT DISTINCT server FROM counts WHERE key <> 'status'")
    assert len(servers) == 2
    states = [step.state for step in counted.steps(counted.latest()[0])]
    assert states == ["running", "running", "running", "done"]


def test_when_the_driver_falls_silent_another_takes_over_and_the_old_one_is_fenced(flowers):
    rollout = start(flowers, "flowers@2", Plan(pairs=10**9, tolerances=LOOSE))
    with Service(flowers, limits=QUICK) as first, Service(flowers, limits=QUICK) as second:
        traffics = [first.server.traffic, second.server.traffic]
        assert eventually(lambda: [at.drives for at in traffics].count(True) == 1)
        driver, other = sorted(traffics, key=lambda at: not at.drives)
        gate, entered, stale = threading.Event(), threading.Event(), []

        def frozen(rollout, lease):
            stale.append(lease)
            entered.set()
            gate.wait(30)
            return rollout

        drive, take_over = driver._drive, other._drive
        other._drive = lambda rollout, lease: rollout
        driver._drive = frozen
        assert entered.wait(20)
        assert eventually(lambda: other.drives)
        bad = Counts(errors=Tally(against=100))
        with flowers.database.writing() as connection:
            flush(connection, "a third", [(key_of(rollout), 0, bad)])
        assert drive(rollout, stale[0]).state == "running"
        assert Book(flowers.database).latest()[0].state == "running"
        assert take_over(rollout, other.seen.lease).state == "rolled_back"
        gate.set()
    assert Book(flowers.database).latest()[0].state == "rolled_back"


def test_a_service_that_was_told_its_version_keeps_it_through_a_rollout(flowers):
    start(flowers, "flowers@2", SHORT)
    with Service(flowers, ["flowers@1"], limits=QUICK) as told, Service(flowers, limits=QUICK) as follows:
        with Asking(told.url) as one, Asking(follows.url) as other:
            assert ended(flowers)
            assert eventually(lambda: other.versions[-1:] == ["flowers@2"])
            seen = len(one.versions)
            assert eventually(lambda: len(one.versions) > seen + 20)
        assert Book(flowers.database).latest()[0].state == "done"
        assert told.server.traffic.watches == {}
    assert set(one.versions) == {"flowers@1"}
    assert one.failed == []


def test_promoting_by_hand_ends_a_rollout(flowers):
    start(flowers, "flowers@2", Plan(pairs=10**9))
    with Service(flowers, limits=QUICK):
        flowers.promote("flowers", 3)
        assert ended(flowers)
    found = Book(flowers.database).latest()[0]
    assert (found.state, found.reason) == ("aborted", "the live version became 3 by hand")


def promoted_and_back(flowers):
    flowers.promote("flowers", 2)
    flowers.rollback("flowers")


MOVES = [
    (promoted_and_back, "done", "the live version became 2 by hand"),
    (lambda flowers: flowers.promote("flowers", 3), "aborted", "the live version became 3 by hand"),
    (lambda flowers: flowers.delete("flowers@1", force=True), "aborted", "the live version became none by hand"),
]


@pytest.mark.parametrize(("move", "state", "reason"), MOVES)
def test_whoever_moves_live_ends_a_rollout_in_the_same_transaction(flowers, move, state, reason):
    start(flowers, "flowers@2", Plan(pairs=10**9))
    move(flowers)
    book = Book(flowers.database)
    found = book.latest()[0]
    assert (found.state, found.reason) == (state, reason)
    steps = [("running", 0.0), (state, 100.0 if state == "done" else 0.0)]
    assert [(step.state, step.share) for step in book.steps(found)] == steps


NAMED = [
    ({"method": "blue_green", "blue": "1", "green": "2", "active": "green"}, "blue_green: green 2"),
    ({"method": "canary", "candidate": "2"}, "canary: candidate 2"),
    ({"method": "shadow", "candidate": "next"}, "shadow: candidate next"),
    ({"method": "sticky", "candidate": "2"}, "sticky: candidate 2"),
]


@pytest.mark.parametrize(("table", "words"), NAMED)
def test_a_version_that_a_route_names_is_deleted_by_force_alone_and_the_route_ends_with_it(flowers, table, words):
    flowers.promote("flowers", 2, "next")
    route(flowers, "flowers", table)
    flowers.delete("flowers@3")
    with pytest.raises(RegistryError, match=rf"flowers@2: the route of flowers names it \({words}\)") as refused:
        flowers.delete("flowers@2")
    assert "modelmill models route flowers --clear" in refused.value.hint
    assert [at.number for at in flowers.versions("flowers")] == [1, 2]
    assert flowers.delete("flowers@2", force=True) == ["the route of flowers"]
    assert Book(flowers.database).routes() == []
    with flowers.database.reading() as connection:
        last = audit.read(connection)[-1]
    assert (last.verb, last.subject, last.detail) == ("routes.clear", "flowers", {"reason": "version 2 was deleted"})


def test_a_version_that_a_rollout_needs_is_deleted_by_force_alone_and_the_rollout_ends_with_it(flowers):
    start(flowers, "flowers@2", SHORT)
    for needed in ("flowers@2", "flowers@1"):
        with pytest.raises(RegistryError, match="the rollout of flowers@2 is on its way") as refused:
            flowers.delete(needed)
        assert "modelmill models rollouts flowers abort" in refused.value.hint
    flowers.delete("flowers@3")
    assert flowers.delete("flowers@2", force=True) == ["the rollout of flowers@2"]
    book = Book(flowers.database)
    found = book.latest()[0]
    assert (found.state, found.reason) == ("aborted", "version 2 was deleted")
    assert [(step.state, step.reason) for step in book.steps(found)][1:] == [("aborted", "version 2 was deleted")]


def test_a_route_by_a_router_that_is_not_installed_keeps_whatever_it_may_name(flowers):
    route(flowers, "flowers", {"method": "header"})
    with flowers.database.writing() as connection:
        table = '{"method": "elsewhere:wise", "best": "3", "seed": 2}'
        connection.execute("UPDATE routes SET router = :router", {"router": table})
    flowers.delete("flowers@2")
    with pytest.raises(RegistryError, match="elsewhere:wise: best 3"):
        flowers.delete("flowers@3")


def test_what_was_deleted_since_it_was_looked_up_gets_neither_a_route_nor_a_rollout(flowers):
    flowers.delete("flowers@2")
    book = Book(flowers.database)
    with pytest.raises(RegistryError, match="flowers@2: was deleted meanwhile"):
        book.begin("flowers", 2, 1, Plan())
    for label in ("2", "next"):
        with pytest.raises(RegistryError, match=f"flowers@{label}: was deleted meanwhile"):
            book.set_route("flowers", Canary(candidate=label))
    assert book.routes() == book.rollouts() == []


@pytest.mark.parametrize("rolled", [False, True], ids=["a route", "a rollout"])
def test_no_client_hears_of_a_version_that_is_deleted_by_force(flowers, rolled):
    with Service(flowers, limits=QUICK) as service, Asking(service.url) as asking:
        if rolled:
            start(flowers, "flowers@2", Plan(shadow=False, steps=(50, 100), requests=10**9, tolerances=LOOSE))
        else:
            route(flowers, "flowers", {"method": "canary", "candidate": "2", "percent": 50})
        assert eventually(lambda: "flowers@2" in asking.versions)
        flowers.delete("flowers@2", force=True)
        assert eventually(lambda: not service.server.traffic.watches)
        seen = len(asking.versions)
        assert eventually(lambda: len(asking.versions) > seen + 20)
    assert asking.failed == []
    assert set(asking.versions[seen + 5 :]) == {"flowers@1"}


def test_a_version_that_is_published_as_live_ends_a_rollout_and_another_alias_does_not(flowers):
    onnx = flowers.file("flowers@1", "model.onnx")
    start(flowers, "flowers@2", Plan(pairs=10**9))
    flowers.promote("flowers", 3, "canary")
    flowers.promote("flowers", 1)
    assert Book(flowers.database).latest()[0].state == "running"
    flowers.publish("flowers", {"model.onnx": onnx}, flowers.find("flowers@1").signature, promote=True)
    assert Book(flowers.database).latest()[0].reason == "the live version became 4 by hand"


def test_a_driver_that_saw_nothing_of_a_move_by_hand_moves_nothing(flowers):
    before = start(flowers, "flowers@2", Plan(pairs=0, requests=0, seconds=0, shadow=False, steps=(100,)))
    after = advance(before, Counts(), Counts())
    assert after.rollout.state == "done"
    promoted_and_back(flowers)
    flowers.promote("flowers", 3)
    with flowers.database.writing() as connection:
        found = settle(connection, flowers, before, after, Counts())
    assert (found.state, found.reason) == ("done", "the live version became 2 by hand")
    assert flowers.find("flowers").number == 3


def test_a_rollout_does_not_begin_in_the_place_of_a_version_that_is_no_longer_live(flowers):
    flowers.promote("flowers", 3)
    with pytest.raises(RegistryError, match="the live version became 3 meanwhile"):
        Book(flowers.database).begin("flowers", 2, 1, Plan())


def test_no_request_goes_to_a_candidate_that_was_promoted_and_rolled_back_at_once(flowers):
    start(flowers, "flowers@2", Plan(shadow=False, steps=(50, 100), requests=10**9, tolerances=LOOSE))
    with Service(flowers, limits=QUICK) as service:
        assert eventually(lambda: set(versions_of(service.url)) == {"flowers@1", "flowers@2"})
        promoted_and_back(flowers)
        assert eventually(lambda: not service.server.traffic.watches)
        assert set(versions_of(service.url)) == {"flowers@1"}


def test_a_rollout_over_http_with_its_refusals(flowers):
    with Service(flowers, limits=QUICK) as service:
        path = "/api/models/flowers/rollout"
        status, made, _ = call(service.url, "POST", path, {"version": 2, "pairs": 10**9, "steps": [10, 100]})
        assert (status, made["stage"], made["plan"]["steps"]) == (201, "shadow", [10.0, 100.0])
        assert call(service.url, "POST", path, {"version": 3})[0] == 409
        shown = call(service.url, "GET", "/api/deployments")[1]["deployments"][0]
        assert (shown["model"], shown["version"], shown["rollout"]["version"]) == ("flowers", 1, 2)
        status, over, _ = call(service.url, "DELETE", path)
        assert (status, over["state"]) == (200, "aborted")
        assert call(service.url, "DELETE", path)[0] == 409
        for body in ({"version": "2"}, [], {"version": 2, "step": 3}, {"version": 2, "pairs": -1}, {"version": 2.5}):
            assert call(service.url, "POST", path, body)[0] == 400
        for body, words in (({}, "came nothing"), ({"version": "2"}, "came a string"), ([], "came a list")):
            assert words in call(service.url, "POST", path, body)[1]["error"]
        assert call(service.url, "POST", path, {"version": 9})[0] == 404
        for verb, at in (("POST", path), ("PUT", "/api/models/flowers/route")):
            for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
                status, told, _ = call(service.url, verb, at, {"version": 2}, {"content-type": kind})
                assert (status, f"came {kind or 'nothing'}" in told["error"]) == (415, True)
        assert call(service.url, "GET", "/api/models/nobody/changes")[0] == 404
        assert [at["state"] for at in call(service.url, "GET", path)[1]["rollouts"]] == ["aborted"]


def test_changes_tell_of_routes_what_was_before_and_after_and_nobody_who_made_them(flowers):
    def told():
        return call(service.url, "GET", "/api/models/flowers/changes")[1]["changes"]

    blue_green = {"method": "blue_green", "blue": "1", "green": "2"}
    shadow = {"method": "shadow", "candidate": "3", "percent": 100.0}

    def is_compared():
        return "compared" in call(service.url, "GET", "/api/deployments")[1]["deployments"][0]["route"]

    with Service(flowers, limits=QUICK) as service, Asking(service.url):
        for active in ("blue", "green"):
            call(service.url, "PUT", "/api/models/flowers/route", {**blue_green, "active": active})
        call(service.url, "PUT", "/api/models/flowers/route", shadow)
        assert eventually(is_compared)
        call(service.url, "DELETE", "/api/models/flowers/route")
        route(flowers, "flowers", {"method": "canary", "candidate": "2"})
        flowers.delete("flowers@2", force=True)
        changes = told()
    routed = [at for at in reversed(changes) if at["what"] == "route"]
    canary = {"method": "canary", "candidate": "2", "percent": 5.0, "salt": ""}
    stood = [None, {**blue_green, "active": "blue"}, {**blue_green, "active": "green"}, shadow, None, canary, None]
    assert [(at["before"], at["after"]) for at in routed] == list(itertools.pairwise(stood))
    assert [at.get("note") for at in routed] == [None] * 5 + ["version 2 was deleted"]
    (compared,) = [at["compared"] for at in routed if "compared" in at]
    assert routed[3]["compared"] == compared
    assert compared["pairs"] > 0
    assert compared["rows_differ"] == compared["rows"] == 3 * compared["pairs"]
    assert all(at["at_ms"] > 0 and not {"who", "tenant", "origin"} & set(at) for at in routed)
    assert [at["at_ms"] for at in changes] == sorted((at["at_ms"] for at in changes), reverse=True)


@pytest.mark.parametrize(
    ("headers", "words"),
    [({}, "requests says who calls (header:x-user)"), ({"x-user": "ann"}, "requests fell into this step")],
)
def test_a_rollout_by_caller_that_meets_none_says_why(flowers, headers, words):
    plan = Plan(shadow=False, steps=(0.001, 100), requests=1, by="header:x-user")
    start(flowers, "flowers@2", plan)
    with Service(flowers, limits=QUICK) as service:
        assert eventually(lambda: service.server.traffic.watches)
        assert set(versions_of(service.url, 30, **headers)) == {"flowers@1"}

        def waits():
            return call(service.url, "GET", "/api/deployments")[1]["deployments"][0]["rollout"]["waits"]

        assert eventually(lambda: words in waits())


def test_a_substitute_takes_the_same_rows(flowers, registry):
    onnx, signature = numbers()
    flowers.publish("flowers", {"model.onnx": onnx}, signature)
    with pytest.raises(RegistryError, match="no substitute for flowers@1: it takes no input length"):
        start(flowers, "flowers@4", Plan())
    with pytest.raises(RegistryError, match="is live already"):
        start(flowers, "flowers@1", Plan())
    with pytest.raises(RegistryError, match="no substitute for flowers@1"):
        route(flowers, "flowers", {"method": "canary", "candidate": "4"})
    onnx, signature = pair(3)
    flowers.publish("pairs", {"model.onnx": pair(2)[0]}, pair(2)[1])
    flowers.publish("pairs", {"model.onnx": onnx}, signature)
    with pytest.raises(RegistryError, match=r"its output value has the shape \[-1, 3\], not \[-1, 2\]"):
        start(flowers, "pairs@2", Plan())
    with pytest.raises(UnknownModel, match="no version named '9'"):
        route(flowers, "flowers", {"method": "blue_green", "blue": "1", "green": "9"})
    with pytest.raises(UsageError, match="not for one of its versions"):
        route(flowers, "flowers@2", {"method": "header"})


def test_a_route_by_a_router_that_is_not_installed_stops_nothing(flowers):
    route(flowers, "flowers", {"method": "header"})
    with flowers.database.writing() as connection:
        connection.execute("UPDATE routes SET router = :router", {"router": '{"method": "elsewhere:wise"}'})
    with Service(flowers, limits=QUICK) as service:
        assert service.server.traffic.watches == {}
        assert versions_of(service.url, 1) == ["flowers@1"]


def versions_of(url, count=40, **headers):
    found = []
    for _ in range(count):
        status, body, got = call(url, "POST", "/predict/flowers", ROWS, headers)
        found.append(got.get("modelmill-version") if status == 200 else (status, body["error"]))
    return found


def test_routes_pick_by_header_caller_colour_and_share(flowers):
    with Service(flowers, limits=QUICK) as service:
        watches = service.server.traffic.watches
        assert set(versions_of(service.url, 3)) == {"flowers@1"}

        route(flowers, "flowers", {"method": "header", "header": "x-use"})
        assert eventually(lambda: service.server.traffic.watches is not watches and service.server.traffic.watches)
        assert versions_of(service.url, 1, **{"x-use": "3"}) == ["flowers@3"]
        assert versions_of(service.url, 1, **{"x-use": "live"}) == ["flowers@1"]
        assert versions_of(service.url, 1, **{"x-use": "9"})[0][0] == 404

        call(service.url, "PUT", "/api/models/flowers/route", {"method": "canary", "candidate": "2", "percent": 50})
        assert eventually(lambda: set(versions_of(service.url)) == {"flowers@1", "flowers@2"})
        assert call(service.url, "POST", "/predict/flowers@3", ROWS)[2]["modelmill-version"] == "flowers@3"

        sticky = {"method": "sticky", "candidate": "2", "percent": 50, "by": "cookie:user"}
        call(service.url, "PUT", "/api/models/flowers/route", sticky)
        assert eventually(lambda: set(versions_of(service.url)) == {"flowers@1"})
        callers = [set(versions_of(service.url, 4, cookie=f"a=1; user=u{n}")) for n in range(12)]
        assert all(len(seen) == 1 for seen in callers)
        assert set().union(*callers) == {"flowers@1", "flowers@2"}

        for active, number in (("green", 3), ("blue", 2)):
            colours = {"method": "blue_green", "blue": "2", "green": "3", "active": active}
            call(service.url, "PUT", "/api/models/flowers/route", colours)
            assert eventually(lambda number=number: set(versions_of(service.url, 5)) == {f"flowers@{number}"})

        assert call(service.url, "DELETE", "/api/models/flowers/route")[1]["cleared"]
        assert eventually(lambda: set(versions_of(service.url, 5)) == {"flowers@1"})
        assert call(service.url, "PUT", "/api/models/flowers/route", {"method": "nothing"})[0] == 400
        for elsewhere in ("unittest:__main__", "antigravity:x", "modelmill.train.trainers:adam"):
            code, answer, _ = call(service.url, "PUT", "/api/models/flowers/route", {"method": elsewhere})
            assert code == 400
            assert "canary" in answer["error"]
        assert "antigravity" not in sys.modules


def test_a_request_that_is_sent_again_with_its_id_meets_the_same_version_on_every_way(flowers):
    route(flowers, "flowers", {"method": "canary", "candidate": "3", "percent": 50})
    canary = Canary(candidate="3", percent=50)
    wanted = {f"r{n}": f"flowers@{canary(f'r{n}', {'3': 3, 'live': 1})}" for n in range(12)}
    assert set(wanted.values()) == {"flowers@1", "flowers@3"}
    with Service(flowers, limits=QUICK, grpc_port=0) as service, grpc.insecure_channel(service.grpc_url) as channel:
        inputs = [{"name": name, "datatype": "FP32", "shape": [1], "data": [1]} for name in ("length", "width")]
        typed = [{**each, "contents": {"fp32_contents": each["data"]}} for each in inputs]
        method = schema().methods[INFER]
        message = schema().encode(method.request, {"model_name": "flowers", "inputs": typed})
        for said, version in wanted.items():
            assert set(versions_of(service.url, 2, **{"x-request-id": said})) == {version}
            asked = call(service.url, "POST", "/v2/models/flowers/infer", {"inputs": inputs}, {"x-request-id": said})
            assert asked[2]["modelmill-version"] == version
            for further in ((), (("traceparent", ""),)):  # which takes the ordinary way
                sent = (("x-request-id", said), *further)
                answer = channel.unary_unary(INFER)(message, timeout=20, metadata=sent)
                assert schema().decode(method.response, answer)["model_version"] == version.partition("@")[2]


def test_a_shadow_is_compared_and_never_seen(flowers):
    route(flowers, "flowers", {"method": "shadow", "candidate": "3"})
    with Service(flowers, limits=QUICK) as service, Asking(service.url) as asking:

        def compared():
            shown = call(service.url, "GET", "/api/deployments")[1]["deployments"][0]["route"]
            return shown.get("compared", {}).get("rows_differ", 0) >= 30

        assert eventually(compared, 60)
    assert set(asking.versions) == {"flowers@1"}
    assert asking.failed == []


def test_the_protocol_is_routed_too_and_a_number_in_the_path_wins(flowers):
    route(flowers, "flowers", {"method": "blue_green", "blue": "3", "green": "2"})
    with Service(flowers, limits=QUICK) as service, Client(service.url) as client:
        columns = {"length": [3.0], "width": [1.0]}
        assert client.infer("flowers", columns)["label"][0] == "wide"
        assert client.infer("flowers@1", columns)["label"][0] == "long"
        with pytest.raises(NotServed):
            client.infer("flowers@7", columns)


def test_a_rollout_and_a_route_exclude_each_other(flowers):
    route(flowers, "flowers", {"method": "shadow", "candidate": "3"})
    with pytest.raises(RegistryError, match="a route is set"):
        start(flowers, "flowers@2", Plan())
    Book(flowers.database).clear_route("flowers")
    start(flowers, "flowers@2", Plan())
    with pytest.raises(RegistryError, match="rollout of flowers@2 is on its way"):
        route(flowers, "flowers", {"method": "shadow", "candidate": "3"})


def test_promoting_under_load_gives_neither_404_nor_a_mixed_answer(flowers):
    big = [[3, 1]] * 50
    with (
        Service(flowers, limits=QUICK) as service,
        Asking(service.url, rows=big) as plain,
        Protocol(service.url) as protocol,
    ):
        for turn in range(40):
            wanted = 3 if turn % 2 == 0 else 1
            flowers.promote("flowers", wanted)
            assert eventually(lambda wanted=wanted: plain.versions[-1:] == [f"flowers@{wanted}"])
    assert plain.failed == protocol.failed == []
    assert protocol.mixed == 0
    assert set(plain.versions) == {"flowers@1", "flowers@3"}


class Protocol(Asking):
    """Asks by the protocol; every answer's labels must be those of the version that its header names."""

    def _run(self):
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        data = {"datatype": "FP32", "shape": [50]}
        inputs = [{"name": "length", **data, "data": [3.0] * 50}, {"name": "width", **data, "data": [1.0] * 50}]
        body = json.dumps({"inputs": inputs, "outputs": [{"name": "label"}]})
        while not self.stop.is_set():
            connection.request("POST", "/v2/models/flowers/infer", body)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            if answer.status != 200:
                self.failed.append(str(found))
                continue
            labels = {"flowers@1": "long", "flowers@3": "wide"}
            self.mixed += found["outputs"][0]["data"] != [labels[answer.headers["modelmill-version"]]] * 50
        connection.close()


PROGRAM = """
import sys, time
from pathlib import Path
from modelmill.registry.registry import Registry
from modelmill.serve.handover import can_share
from modelmill.serve.server import Limits, run
from modelmill.store.home import Home

home = Home(Path(sys.argv[1]))
limits = Limits(watch_seconds=0.05, reuse_port=len(sys.argv) > 2, lead_seconds=0.5 if len(sys.argv) > 2 else 0.0)
port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
registry = Registry(home.database, home.blobs)
run(registry, ["flowers"], port=port, limits=limits, ready=lambda url: print(url, flush=True))
"""


def process(home, *arguments):
    """A service in a process of its own, and its URL."""
    command = [sys.executable, "-c", PROGRAM, str(home), *map(str, arguments)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return started, started.stdout.readline().strip()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_driver_that_is_killed_is_followed_by_another_one(flowers, tmp_path):
    start(flowers, "flowers@2", Plan(steps=(50, 100), pairs=30, requests=30, seconds=0, tolerances=LOOSE))
    first, url = process(tmp_path)
    try:
        with Asking(url):
            assert eventually(lambda: Book(flowers.database).latest()[0].step > 0, 60)
            first.send_signal(signal.SIGSTOP)  # so that nothing is decided between the look and the kill
        before = Book(flowers.database).latest()[0]
    finally:
        first.kill()
        first.wait(20)
        first.stdout.close()
    if before.state == "running":
        with Service(flowers, ["flowers"], limits=QUICK) as service, Asking(service.url) as asking:
            assert ended(flowers)
        assert asking.failed == []
    after = Book(flowers.database)
    assert after.latest()[0].state == "done"
    assert [step.share for step in after.steps(before)] == [0.0, 50.0, 100.0, 100.0]
    assert flowers.find("flowers").number == 2


@pytest.mark.skipif(not can_share(), reason="one process a port")
def test_a_port_is_handed_to_the_next_process_without_a_failed_request(flowers, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    old, url = process(tmp_path, port)
    with Asking(url) as kept, Asking(url, fresh=True) as fresh:
        for _ in range(2):
            new, _ = process(tmp_path, port)
            seen = len(kept.versions), len(fresh.versions)
            old.send_signal(signal.SIGTERM)
            assert old.wait(60) == 0
            old.stdout.close()
            assert eventually(lambda seen=seen: len(kept.versions) > seen[0] and len(fresh.versions) > seen[1])
            old = new
    old.send_signal(signal.SIGTERM)
    assert old.wait(60) == 0
    old.stdout.close()
    assert kept.failed == fresh.failed == []
    assert kept.reopened >= 2


class Grpc(Asking):
    """Asks by gRPC; every answer's labels must be those of the version that it names."""

    def _run(self):
        method = schema().methods[INFER]
        inputs = [{"name": name, "datatype": "FP32", "shape": [50]} for name in ("length", "width")]
        raw = [np.full(50, value, "<f4").tobytes() for value in (3, 1)]
        asked = {"model_name": "flowers", "inputs": inputs, "outputs": [{"name": "label"}], "raw_input_contents": raw}
        message = schema().encode(method.request, asked)
        labels = {"1": b"\x04\0\0\0long" * 50, "3": b"\x04\0\0\0wide" * 50}
        with grpc.insecure_channel(self.url) as channel:
            call = channel.unary_unary(INFER)
            while not self.stop.is_set():
                try:
                    found = schema().decode(method.response, call(message, timeout=20))
                except grpc.RpcError as error:
                    self.failed.append(f"{error.code()} {error.details()}")
                    continue
                self.versions.append(found["model_version"])
                self.mixed += found["raw_output_contents"][0] != labels[found["model_version"]]


def test_grpc_is_promoted_routed_and_rolled_out_like_http(flowers):
    with Service(flowers, limits=QUICK, grpc_port=0) as service, Grpc(service.grpc_url) as asking:
        for turn in range(10):
            wanted = 3 if turn % 2 == 0 else 1
            flowers.promote("flowers", wanted)
            assert eventually(lambda wanted=wanted: asking.versions[-1:] == [str(wanted)])
        route(flowers, "flowers", {"method": "blue_green", "blue": "3", "green": "2"})
        assert eventually(lambda: asking.versions[-1:] == ["3"])
        Book(flowers.database).clear_route("flowers")
        start(flowers, "flowers@3", SHORT)
        assert ended(flowers)
        assert eventually(lambda: asking.versions[-1:] == ["1"])
    assert "answers differ" in Book(flowers.database).latest()[0].reason
    assert asking.failed == []
    assert asking.mixed == 0
