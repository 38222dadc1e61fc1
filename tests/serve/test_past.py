"""What was counted over the last day: over restarts, replaced workers and several servers of one home."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace

import pytest

from modelmill.client import Client
from modelmill.serve.server import Service
from modelmill.serve.signals.answer import Answer
from modelmill.serve.signals.past import KEY, Past
from modelmill.serve.signals.signals import QUIET, Signals
from modelmill.serve.signals.status import NOTHING, Counts
from modelmill.store.database import Database

DAY = 86_400.0
NOW = 20_000 * DAY


@pytest.fixture(params=["sqlite", "postgresql"])
def database(tmp_path, request):
    is_file = request.param == "sqlite"
    database = Database(f"sqlite:///{tmp_path}/modelmill.db" if is_file else request.getfixturevalue("postgres_url"))
    yield database
    database.close()


def requests(past, now_s, now):
    """The requests in each window."""
    return [found.requests for found in past.windows(now_s, now).values()]


def rows(database):
    with database.reading() as connection:
        return connection.rows("SELECT server, step FROM counts WHERE key = :key ORDER BY step", {"key": KEY})


def test_a_window_forgets_what_was_before_it(database):
    past = Past(database, "a")
    past.keep(NOW, Counts(100, 50))
    past.keep(NOW + 400, Counts(200, 50))
    found = past.windows(NOW + 800, Counts(300, 51))
    assert (found["5m"].requests, found["5m"].failed) == (100, 1)
    assert (found["1h"].requests, found["1h"].failed) == (300, 51)
    assert requests(past, NOW + 3800, Counts(300, 51)) == [100, 200, 300]


def test_a_restart_goes_on_from_what_was_counted_before_it(database):
    """The figures of the next one begin at zero, and it is found by whichever worker answers."""
    Past(database, "before").keep(NOW, Counts(100, 50))
    after, other = Past(database, "after"), Past(database, "after")
    after.keep(NOW + 60, Counts(7))
    assert requests(after, NOW + 61, Counts(8)) == requests(other, NOW + 61, Counts(8)) == [108, 108, 108]
    assert requests(after, NOW + 1000, Counts(8)) == [1, 108, 108]
    assert after.windows(NOW + 1000, Counts(8))["1h"].failed == 50


def test_servers_of_one_home_are_counted_together(database):
    one, other = Past(database, "one"), Past(database, "other")
    for step in range(20):
        one.keep(NOW + 60 * step, Counts(10.0 * step))
        other.keep(NOW + 60 * step, Counts(1.0 * step))
    now_s = NOW + 60 * 19
    assert requests(one, now_s, Counts(190)) == requests(other, now_s, Counts(19)) == [66, 209, 209]


def test_a_day_is_kept_and_of_what_was_before_it_as_much_as_it_is_reckoned_from(database):
    past = Past(database, "a")
    Past(database, "long ago").keep(NOW - 1, Counts(5))
    for hour in range(60):
        past.keep(NOW + 3600 * hour, Counts(hour))
    assert {server for server, _ in rows(database)} == {"a"}
    assert len(rows(database)) == 26
    assert requests(past, NOW + 3600 * 59 + 600, Counts(59)) == [0, 1, 24]


def test_a_service_that_nobody_asked_for_two_days_has_answered_nothing_today(database):
    past = Past(database, "a")
    past.keep(NOW, Counts(100))
    past.keep(NOW + 2 * DAY, Counts(100))
    assert requests(Past(database, "a"), NOW + 2 * DAY, Counts(101)) == [1, 1, 1]


def test_what_is_not_new_is_written_once_a_minute(tmp_path):
    class Counting(Database):
        writes = 0

        def writing(self, *, durable=False):
            self.writes += 1
            return super().writing(durable=durable)

    counting = Counting(f"sqlite:///{tmp_path}/modelmill.db")
    past = Past(counting, "a")
    for second in range(0, 120, 10):
        past.keep(NOW + second, Counts(1))
    assert counting.writes == 2
    past.keep(NOW + 119, Counts(2))
    assert counting.writes == 3
    counting.close()


def test_counts_of_another_release_have_no_times_where_its_buckets_are_others(database):
    Past(database, "before").keep(NOW, replace(Counts(5), durations=(1.0, 2.0)))
    found = Past(database, "after").windows(NOW, Counts(1))["5m"]
    assert found.requests == 6
    assert found.durations == NOTHING.durations


def test_without_a_database_the_last_that_was_read_is_told(tmp_path, database, capsys):
    Past(database, "before").keep(NOW, Counts(5))
    past = Past(database, "after")
    assert requests(past, NOW, Counts(1)) == [6, 6, 6]
    past.database = Database(f"sqlite:///{tmp_path}/nowhere/file/modelmill.db")
    (tmp_path / "nowhere").write_bytes(b"")
    for second in range(3):
        past.keep(NOW + 60 * second, Counts(2 + second))
    assert requests(past, NOW, Counts(5)) == [10, 10, 10]
    assert capsys.readouterr().err.count("what /api/status tells is not kept") == 1
    assert requests(Past(None, "a"), NOW, Counts(5)) == [5, 5, 5]


def test_a_service_that_starts_anew_tells_of_the_one_before(empty_registry, publish_flowers):
    publish_flowers(empty_registry, promote=True)
    for turn in (1, 2):
        with Service(empty_registry) as service, Client(service.url) as client:
            for _ in range(3):
                client.predict("flowers", [[3, 1]])
            with urllib.request.urlopen(f"{service.url}/api/status", timeout=20) as answer:
                told = json.load(answer)
        assert {window["requests"] for window in told["windows"].values()} == {3 * turn}
        assert 0 <= told["up_seconds"] < 60


def test_a_worker_that_takes_the_place_of_a_dead_one_tells_the_same(tmp_path, database):
    folder = tmp_path / "serve-x"
    folder.mkdir()
    first, second = (Signals(QUIET, folder, worker, database) for worker in (0, 1))
    first.answered(Answer("v2", "flowers", "1", 200, 0.001))
    second.answered(Answer("v2", "flowers", "1", 503, 0.001))
    first.keep()
    third = Signals(QUIET, folder, 0, database)
    told, other = third.status(), second.status()
    assert told["windows"] == other["windows"] == second.status()["windows"]
    assert told["windows"]["24h"]["requests"] == 2
    assert told["windows"]["24h"]["failed"] == 1
    assert abs(told["up_seconds"] - other["up_seconds"]) < 5
    assert third.figures.series()['["since"]'] == first.figures.series()['["since"]']
