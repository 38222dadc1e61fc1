"""What changed about a model is found without reading what changed about all others."""

from __future__ import annotations

import pytest

from modelmill.registry.registry import Registry
from modelmill.serve.routers.canary import Canary
from modelmill.serve.traffic.book import Book
from modelmill.serve.traffic.changes import changes
from modelmill.serve.traffic.rollout import Plan
from modelmill.store import audit
from modelmill.store.home import Home
from modelmill.store.sqlite import SqliteConnection


@pytest.fixture
def registry(tmp_path, publish_flowers):
    place = Home(tmp_path)
    registry = Registry(place.database, place.blobs)
    for sign in (1, -1):
        publish_flowers(registry, sign=sign)
    book = Book(place.database)
    book.set_route("flowers", Canary(candidate="2"))
    book.clear_route("flowers")
    book.begin("flowers", 2, 1, Plan())
    return registry


def test_no_query_reads_a_whole_table(registry, monkeypatch):
    """Else the audit log, which only grows, is read by whoever may see a model."""
    asked = []
    rows = SqliteConnection.rows

    def listened(self, sql, parameters=None):
        asked.append((sql, parameters))
        return rows(self, sql, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteConnection, "rows", listened)
        told = changes(registry, "flowers")["changes"]
    assert {change["what"] for change in told} == {"publish", "promote", "route", "rollout"}
    with registry.database.reading() as connection:
        plans = {
            sql: [step[-1] for step in connection.rows(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            for sql, parameters in asked
        }
    assert not [(sql, plan) for sql, plan in plans.items() if any(step.startswith("SCAN") for step in plan)]
    logged = [plan for sql, plan in plans.items() if " FROM audit " in sql]
    assert ["(subject=? AND verb=?)" in plan[0] for plan in logged] == [True]


def test_what_else_was_done_to_the_same_name_is_not_read(registry):
    """A tenant may be called as a model is, and a model may be loaded a thousand times a day."""
    with registry.database.writing() as connection:
        for verb in ("serve.load", "tenants.change", "routes.other"):
            audit.write(connection, audit.local(), verb, "flowers")
    with registry.database.reading() as connection:
        deeds = audit.about(connection, "flowers", ("routes.set", "routes.clear"))
    assert [deed.verb for deed in deeds] == ["routes.set", "routes.clear"]
