"""Quotas: as many requests and rows as agreed, to a hundredth, in one process and in several."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import sys
import threading
import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from patience import eventually

from modelmill.console.pages import Pages
from modelmill.errors import OutOfBounds, OverQuota
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.serve.access.door import check, check_rows
from modelmill.serve.access.keyring import Keyring
from modelmill.serve.access.meters import DAY_S, SECOND, Gate, Meters
from modelmill.serve.access.quota import Quota, requests_per_s, rows_per_day, words
from modelmill.serve.web.express import Express
from modelmill.signature import Field, Signature


def gate(meters, *quotas):
    return Gate(meters, [meters.meter(f"key:{n}", quota) for n, quota in enumerate(quotas)])


@pytest.mark.parametrize("rate", [0.5, 3, 100, 1234, 5000])
def test_a_flood_gets_the_agreed_rate_to_a_hundredth(rate):
    meters = Meters()
    one = gate(meters, Quota(requests_per_s=rate))
    seconds = max(10, 200 / rate)
    sent = int(seconds * rate * 3)  # three times as many as agreed
    passed = sum(one.admit(int(10**12 + i * SECOND / rate / 3)) == 0 for i in range(sent))
    assert passed == pytest.approx(rate * seconds, rel=0.0105)
    meters.close()


def test_the_wait_that_is_told_is_the_wait_that_is_needed():
    meters = Meters()
    one = gate(meters, Quota(requests_per_s=4, burst=2))
    now = 10**12
    assert [one.admit(now), one.admit(now)] == [0, 0]
    wait = one.admit(now)
    assert wait == SECOND // 4
    assert one.admit(now + wait - 1) == 1
    assert one.admit(now + wait) == 0
    standing = one.standing(now + wait, 0.0)
    assert (standing.limit, standing.window_s, standing.remaining, standing.reset_s) == (4, 1, 0, 1)
    meters.close()


def test_a_request_that_the_tenant_refuses_costs_the_key_nothing():
    meters = Meters()
    key, tenant = Quota(requests_per_s=1, burst=2), Quota(requests_per_s=1, burst=1)
    both, alone = gate(meters, key, tenant), gate(meters, key)
    now = 10**12
    assert both.admit(now) == 0
    assert both.admit(now) > 0
    assert alone.admit(now) == 0
    meters.close()


def test_rows_are_counted_by_the_day():
    meters = Meters()
    one = gate(meters, Quota(rows_per_day=100))
    day = 20_000 * DAY_S
    assert one.admit_rows(60, day + 10) == 0
    assert one.admit_rows(41, day + 10) == DAY_S - 10
    assert one.admit_rows(40, day + 11) == 0
    assert one.admit_rows(1, day + DAY_S - 1) == 1
    assert one.admit_rows(100, day + DAY_S) == 0
    meters.close()


def test_counts_outlive_a_restart_and_a_clock_that_began_anew(tmp_path):
    meters = Meters(tmp_path / "m.bin")
    assert gate(meters, Quota(requests_per_s=0.01, rows_per_day=5)).admit(10**15) == 0
    assert gate(meters, Quota(rows_per_day=5)).admit_rows(5, 100 * DAY_S) == 0
    meters.close()
    again = Meters(tmp_path / "m.bin")
    one = gate(again, Quota(requests_per_s=0.01, rows_per_day=5))
    assert one.admit(10**15 + 1) > 0
    assert one.admit(10**9) == 0  # the machine was started again: the old time lies far ahead of its clock
    assert one.admit_rows(1, 100 * DAY_S) > 0
    again.close()


def test_a_clock_that_was_read_before_anothers_decision_gives_nothing_away():
    """Whoever waited for a sibling's decision comes with an older time, and finds more paid for than it could be."""
    meters = Meters()
    one = gate(meters, Quota(requests_per_s=50, burst=1))
    now = 10**10
    assert one.admit(now) == 0
    waits = [one.admit(now - late) for late in (1000, SECOND // 10, 2 * SECOND)]
    assert waits == [SECOND // 50 + late for late in (1000, SECOND // 10, 2 * SECOND)]
    assert one.wait(now - SECOND)
    assert one.standing(now - SECOND, 0.0).remaining == 0
    assert one.admit(now + SECOND // 50) == 0
    meters.close()


def test_the_clock_is_read_when_nobody_else_decides(tmp_path):
    """What a request waited for another one's decision is not taken off the time that it pays for."""
    meters = Meters(tmp_path / "m.bin", shared=sys.platform != "win32")
    one = gate(meters, Quota(requests_per_s=1 / 60, burst=1))
    waiting = threading.Thread(target=one.admit)
    with meters.alone():
        waiting.start()
        time.sleep(0.02)
        decided = time.monotonic_ns()
    waiting.join(20)
    assert one.by_rate[0].paid(decided) >= decided + 60 * SECOND
    meters.close()


def flood(path, quota, tries, barrier, results):
    meters = Meters(path, shared=True)
    one = gate(meters, quota)
    barrier.wait(60)
    results.put(sum(one.admit(10**12) == 0 for _ in range(tries)))


def test_processes_that_decide_at_once_give_out_every_request_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    results, barrier = context.Queue(), context.Barrier(3)
    quota = Quota(requests_per_s=1, burst=4000)
    arguments = (tmp_path / "m.bin", quota, 4000, barrier, results)
    workers = [context.Process(target=flood, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    passed = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert sum(passed) == 4000


def test_a_quota_is_refused_with_the_time_to_wait_and_told_in_headers(start, keys, ask):
    secret, _ = keys.create("slow", quota=Quota(requests_per_s=0.1, burst=2))
    service = start()
    first = ask(service, "POST", "/predict/flowers", [[3, 1]], secret)
    assert first.code == 200
    assert (first.headers["ratelimit-limit"], first.headers["ratelimit-policy"]) == ("6", "6;w=60")
    assert first.headers["ratelimit-remaining"] == "1"
    assert ask(service, "GET", "/v2/models/flowers", key=secret).headers["ratelimit-remaining"] == "0"
    refused = ask(service, "POST", "/predict/flowers", [[3, 1]], secret)
    assert refused.code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert refused.headers["ratelimit-remaining"] == "0"
    assert ask(service, "GET", "/v2/health/ready").code == 200


@pytest.mark.parametrize(
    ("text", "burst", "limit", "window_s", "remaining"),
    [
        ("90/m", 0, 90, 60, 1),
        ("100/h", 0, 100, 3600, 1),
        ("100/h", 50, 100, 3600, 50),
        ("7/h", 0, 7, 3600, 1),
        ("100/s", 0, 100, 1, 10),
        ("120/m", 0, 2, 1, 1),
        ("0.5/h", 0, 5, 36_000, 1),
        ("0.4/h", 9, 4, 36_000, 4),
        ("10/s", 50, 10, 1, 10),
        ("0.36/h", 0, 3, 36_000, 1),
        ("999999/h", 0, 999_999, 3600, 27),
    ],
)
def test_a_rate_is_stated_over_a_time_in_which_it_is_whole(text, burst, limit, window_s, remaining):
    meters = Meters()
    told = gate(meters, Quota(requests_per_s(text), burst)).standing(10**12, 0.0)
    assert (told.limit, told.window_s, told.remaining) == (limit, window_s, remaining)
    meters.close()


def test_the_log_and_the_list_state_a_quota_as_it_was_written(keys):
    for said, burst, shown in (
        ("100/h", 0, "100/h"),
        ("90/m", 20, "90/m, 20 at once"),
        ("2.5/s", 0, "150/m"),
        ("0.36/h", 0, "0.36/h"),
    ):
        _, made = keys.create("web", quota=Quota(requests_per_s(said), burst))
        listed = {key.id: key for key in keys.listed()}
        assert keys.audit()[-1].detail["quota"] == words(listed[made.id].quota) == shown


def test_every_answer_to_such_a_key_tells_what_is_left(start, keys, ask, shelf, place):
    """Of paths that are not there, of pages for people, and of refusals, too."""
    keys.tenant("acme", models=["acme-*"])
    secret, _ = keys.create("slow", ["infer", "read"], quota=Quota(requests_per_s=0.1, burst=6))
    service = start(pages=Pages(shelf, place.database))
    asked = (
        ("GET", "/v2/nowhere", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v2/models/flowers", 405),
        ("GET", "/models/flowers", 200),
        ("GET", "/runs", 403),
        ("GET", "/v2/models/acme-risk", 404),
    )
    for left, (method, path, code) in zip((5, 4, 3, 2, 1, 0), asked, strict=True):
        answer = ask(service, method, path, key=secret)
        assert (answer.code, answer.headers.get("ratelimit-remaining")) == (code, str(left)), path
    assert ask(service, "GET", "/", key=secret).headers["ratelimit-remaining"] == "0"


def test_what_is_left_of_rows_alone_is_told_in_headers(start, keys, ask):
    secret, _ = keys.create("rows", quota=Quota(rows_per_day=5))
    told = ask(start(), "POST", "/predict/flowers", [[3, 1], [1, 3]], secret).headers
    assert (told["ratelimit-limit"], told["ratelimit-policy"]) == ("5", "5;w=86400")
    assert told["ratelimit-remaining"] == "3"
    assert 0 < int(told["ratelimit-reset"]) <= 86_400


def test_rows_that_fill_up_a_call_are_not_counted(start, keys, ask, shelf):
    writer = Writer()
    writer.rename(writer.op("Neg", ["x"]), "y")
    fields = (Field("x", "FP32", (4, 1), "array"),), (Field("y", "FP32", (4, 1), "array"),)
    onnx = to_onnx(writer.fragment(), *fields)
    shelf.publish("steady", {"model.onnx": onnx}, Signature("compute", *fields), promote=True)
    secret, _ = keys.create("rows", quota=Quota(rows_per_day=9))
    service = start()
    first, second = (ask(service, "POST", "/predict/steady", [[n] for n in range(5)], secret) for _ in range(2))
    assert (first.code, first.headers["ratelimit-remaining"], second.code) == (200, "4", 429)


def tensors(rows):
    names = ("length", "width")
    return {"inputs": [{"name": name, "datatype": "FP32", "shape": [rows], "data": [1] * rows} for name in names]}


@pytest.mark.parametrize("path", ["/predict/flowers", "/v2/models/flowers/infer"])
def test_a_refusal_says_whose_quota_it_is_how_much_and_when_there_is_room(start, keys, ask, path):
    """On the short way and on the ordinary one."""
    keys.tenant("acme", quota=Quota(requests_per_s("7/h"), burst=2, rows_per_day=6))
    ours = keys.create("a", tenant="acme", quota=Quota(requests_per_s("5/h")))[0]
    theirs = keys.create("b", tenant="acme", quota=Quota(rows_per_day=4))[0]
    service = start()

    def send(key, rows):
        return ask(service, "POST", path, [[3, 1]] * rows if path == "/predict/flowers" else tensors(rows), key)

    assert send(ours, 3).code == 200
    for _ in range(2):
        over = send(ours, 1)
        assert over.code == 429
        told = over.json["error"]
        assert told.startswith("quota of the key: 5/h, 1 at once, is used up: there is room for a request in ")
        assert int(told.split()[-2]) == pytest.approx(720, abs=10)
        assert int(over.headers["retry-after"]) == pytest.approx(720, abs=10)
        assert over.headers["modelmill-version"] == "flowers@1"
    full = send(theirs, 4)
    assert (full.code, full.headers["modelmill-version"]) == (429, "flowers@1")
    assert "quota of the tenant: 6 rows a day has no room for 4 more rows today" in full.json["error"]
    told = send(theirs, 1).json["error"]
    assert "quota of the tenant: 7/h, 2 at once, is used up" in told


def test_what_is_used_up_while_a_body_comes_is_refused_with_the_version(start, keys, ask, monkeypatch):
    """On the short way, which was entered while there was room."""
    secret = keys.create("a", quota=Quota(requests_per_s("2/h"), burst=2))[0]
    service = start()
    path, body = "/v2/models/flowers/infer", json.dumps(tensors(1)).encode()
    assert ask(service, "POST", path, tensors(1), secret).code == 200
    opened, openings = Express.opened, []
    monkeypatch.setattr(Express, "opened", lambda *given: openings.append(opened(*given)) or openings[-1])
    with closing(http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)) as connection:
        connection.putrequest("POST", path)
        connection.putheader("authorization", f"Bearer {secret}")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body[:10])
        assert eventually(lambda: openings)
        assert openings[0] is not None
        assert ask(service, "POST", path, tensors(1), secret).code == 200
        connection.send(body[10:])
        with connection.getresponse() as refused:
            assert (refused.status, refused.headers["modelmill-version"]) == (429, "flowers@1")


def test_a_refusal_names_no_version_that_was_not_looked_for(start, keys, ask, shelf, publish_flowers):
    """Whether one exists that is not in memory is not worth finding out for whoever is refused."""
    publish_flowers(shelf)
    secret = keys.create("a", quota=Quota(requests_per_s("1/h")))[0]
    service = start()
    codes = []
    for path in ("/predict/flowers", "/predict/flowers", "/v2/models/flowers/versions/2/infer"):
        answer = ask(service, "POST", path, [[3, 1]], secret)
        codes.append((answer.code, answer.headers.get("modelmill-version")))
    assert codes == [(200, "flowers@1"), (429, "flowers@1"), (429, None)]


@pytest.mark.parametrize("path", ["/predict/flowers", "/v2/models/flowers/infer"])
def test_more_rows_than_a_whole_day_has_are_too_large_and_not_for_later(start, keys, ask, path):
    keys.tenant("acme", quota=Quota(rows_per_day=6))
    secret = keys.create("a", tenant="acme", quota=Quota(rows_per_day=9))[0]
    service = start()
    refused = ask(service, "POST", path, [[3, 1]] * 7 if path == "/predict/flowers" else tensors(7), secret)
    assert (refused.code, "retry-after" in refused.headers) == (413, False)
    assert "are 7, and the quota of the tenant is 6 a day" in refused.json["error"]
    assert ask(service, "POST", path, [[3, 1]] * 6 if path == "/predict/flowers" else tensors(6), secret).code == 200


def test_many_keys_of_a_tenant_share_its_quota(start, keys, ask):
    keys.tenant("acme", "standard", quota=Quota(requests_per_s=0.01, burst=3, rows_per_day=2))
    secrets = [keys.create(f"k{n}", tenant="acme")[0] for n in range(5)]
    service = start()
    codes = [ask(service, "POST", "/predict/flowers", [[3, 1]], secret).code for secret in secrets]
    assert codes == [200, 200, 429, 429, 429]  # two rows, then three requests


def test_a_changed_quota_goes_on_where_the_old_one_was(place, keys):
    secret, _ = keys.create("web", tenant="default")
    keys.tenant("default", quota=Quota(rows_per_day=10))
    ring = Keyring(place.database)
    ring.refresh()
    check_rows(ring.caller(secret), 8)
    keys.tenant("default", quota=Quota(rows_per_day=9))
    assert ring.refresh()
    with pytest.raises(OverQuota, match="no room for 2 more rows"):
        check_rows(ring.caller(secret), 2)
    check_rows(ring.caller(secret), 1)
    check(ring.caller(secret), frozenset({"infer"}))


@pytest.mark.parametrize(
    "text", ["", "100", "x/s", "-1/s", "1/y", "1e9/s", "0/s", "nan/s", "1 / s / s", "1__0/s", "1_/s"]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(OutOfBounds):
        requests_per_s(text)
    with pytest.raises(OutOfBounds):
        rows_per_day(text or "0/day")
