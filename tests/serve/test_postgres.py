"""What the service keeps lies on PostgreSQL as in SQLite; skipped where no server or driver is installed."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from modelmill.client import Client
from modelmill.errors import Overloaded, RegistryError, UnknownModel
from modelmill.registry.registry import Registry
from modelmill.serve.access import ended
from modelmill.serve.access.keys import Keys
from modelmill.serve.access.quota import Quota
from modelmill.serve.routers.canary import Canary
from modelmill.serve.server import Service
from modelmill.serve.traffic.book import Book
from modelmill.serve.traffic.changes import changes
from modelmill.serve.traffic.rollout import Plan
from modelmill.store import tables
from modelmill.store.database import Database
from modelmill.store.home import Home


@pytest.fixture
def place(tmp_path, postgres_url):
    place = Home(tmp_path / "home", postgres_url)
    yield place
    place.database.close()


@pytest.fixture
def registry(place, publish_flowers):
    registry = Registry(place.database, place.blobs)
    for sign in (1, -1):
        publish_flowers(registry, sign=sign)
    return registry


def indexes(database):
    with database.reading() as connection:
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
        return connection.rows(query)


def test_what_changed_is_told_with_routes_and_rollouts_and_found_by_the_index(place, registry):
    book = Book(place.database)
    book.set_route("flowers", Canary(candidate="2"))
    book.clear_route("flowers")
    book.begin("flowers", 2, 1, Plan())
    told = changes(registry, "flowers")["changes"]
    assert sorted(change["what"] for change in told) == ["promote", "publish", "publish", "rollout", "route", "route"]
    canary = Canary(candidate="2").as_table()
    assert [(change.before, change.after) for change in book.history("flowers")] == [(None, canary), (canary, None)]
    with place.database.reading() as connection:
        connection.execute("SET LOCAL enable_seqscan = off")  # a small table is read whole otherwise
        connection.execute("SET LOCAL enable_bitmapscan = off")
        query = "EXPLAIN SELECT id FROM audit WHERE subject = :subject AND verb IN (:set, :clear) ORDER BY id"
        named = {"subject": "flowers", "set": "routes.set", "clear": "routes.clear"}
        plan = " ".join(row[0] for row in connection.rows(query, named))
    assert "audit_by_subject" in plan


def test_the_schema_before_the_index_is_led_to_the_present_one(place, postgres_url):
    made = indexes(place.database)
    with place.database.writing() as connection:
        connection.execute("DROP INDEX audit_by_subject")
        connection.execute("UPDATE schema_version SET version = 5")
    again = Database(postgres_url)
    assert indexes(again) == made
    with again.reading() as connection:
        assert connection.row("SELECT version FROM schema_version") == (tables.VERSION,)
    again.close()


def test_keys_are_changed_and_tenants_deleted(place):
    keys = Keys(place.database)
    keys.tenant("acme", tier="standard", models=["a*"])
    _, key = keys.create("k", tenant="acme")
    changed = keys.change(key.id, roles=["read", "infer"], models=["b*"], quota=Quota(requests_per_s=5.0))
    assert keys.listed() == [changed]
    assert (set(changed.roles), changed.models, changed.quota.requests_per_s) == ({"read", "infer"}, ("b*",), 5.0)
    keys.tenant("acme", models=[])
    with pytest.raises(RegistryError, match=f"has the keys {key.id}"):
        keys.delete_tenant("acme")
    keys.revoke(key.id)
    keys.delete(key.id)
    keys.delete_tenant("acme")
    assert [tenant.name for tenant in keys.tenants()] == ["default"]
    verbs = ["tenant", "create", "change", "tenant", "revoke", "delete", "delete_tenant"]
    assert [deed.verb for deed in keys.audit()] == [f"keys.{verb}" for verb in verbs]
    assert keys.verify()[0] == []


def test_sessions_are_ended_until_their_time_is_over(place, monkeypatch):
    monkeypatch.setattr(ended, "MOST", 2)
    with place.database.writing() as connection:
        for mark in ("a", "a", "b"):
            ended.end(connection, mark, "key", 100, now_s=0.0)
        with pytest.raises(Overloaded):
            ended.end(connection, "c", "key", 200, now_s=0.0)
        assert ended.ended(connection) == {"a", "b"}
        ended.end(connection, "c", "key", 200, now_s=100.0)
    with place.database.reading() as connection:
        assert ended.ended(connection) == {"c"}


def test_a_service_answers_and_a_name_that_cannot_be_is_not_there(place, registry):
    """PostgreSQL takes no text with a NUL, also not to look for it."""
    with pytest.raises(UnknownModel):
        registry.find("a\0b")
    with Service(registry) as service, Client(service.url) as client:
        assert client.predict("flowers", [[3, 1]])["label"].tolist() == ["long"]
        with urllib.request.urlopen(f"{service.url}/api/models/flowers/changes", timeout=20) as answer:
            assert json.load(answer)["live"] == 1
        for path in ("v2/models/a%00b", "api/models/a%00b/changes"):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(f"{service.url}/{path}", timeout=20)
            assert refusal.value.code == 404
            refusal.value.close()


FORKS = r"""
import os, sys
from modelmill.store.database import Database
database = Database(sys.argv[1])
def asked():
    with database.reading() as connection:
        return connection.row("SELECT pg_backend_pid()")[0]
asked()
child = os.fork()
os.write(1, b"%d\n" % asked())  # in one piece, as two processes write
if child:
    os.waitpid(child, 0)
    os.write(1, b"%d\n" % asked())
"""


def test_a_child_that_forks_has_connections_of_its_own(postgres_url):
    """Two processes that speak on one socket each read what the other asked for, or wait for it for ever."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS, postgres_url], capture_output=True, text=True, timeout=60, check=True
    )
    first, second, last = done.stdout.split()
    assert first != second
    assert last in (first, second)
