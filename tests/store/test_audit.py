"""The audit log: a row for every change, in a chain that tells when it was tampered with."""

from __future__ import annotations

import pytest

from modelmill.registry.registry import Registry
from modelmill.store import audit
from modelmill.store.audit import Actor
from modelmill.store.home import Home

ADA = Actor("key:0a1b2c3d", "acme", "192.0.2.7")


@pytest.fixture
def database(tmp_path):
    database = Home(tmp_path).database
    with database.writing() as connection:
        for number in range(5):
            audit.write(connection, ADA, "models.promote", f"a@{number}", {"alias": "live"})
    yield database
    database.close()


def problems(database, known=""):
    with database.reading() as connection:
        return audit.verify(connection, known)


def change(database, sql):
    with database.writing() as connection:
        assert connection.execute(sql)


def test_rows_say_who_did_what_from_where(database):
    with database.reading() as connection:
        deed = audit.read(connection, since=1, most=1)[0]
    assert (deed.id, deed.who, deed.tenant, deed.origin) == (2, "key:0a1b2c3d", "acme", "192.0.2.7")
    assert (deed.verb, deed.subject, deed.detail) == ("models.promote", "a@1", {"alias": "live"})
    assert problems(database) == []


def test_the_newest_rows_are_read_in_their_order(database):
    with database.reading() as connection:
        assert [deed.id for deed in audit.read(connection, most=2)] == [4, 5]
        assert [deed.id for deed in audit.read(connection, since=0, most=2)] == [1, 2]
        assert [deed.id for deed in audit.read(connection, since=3)] == [4, 5]


@pytest.mark.parametrize("column", ["at_ms", "who", "tenant", "origin", "verb", "subject", "detail", "digest"])
def test_any_altered_value_is_noticed(database, column):
    value = "1" if column == "at_ms" else "'x'"
    change(database, f"UPDATE audit SET {column} = {value} WHERE id = 3")
    assert problems(database)[0] == "row 3 is not as it was written"


def test_a_row_taken_out_is_noticed(database):
    change(database, "DELETE FROM audit WHERE id = 3")
    assert "row 3 is missing" in problems(database)


def test_a_log_cut_off_is_noticed_by_a_digest_that_was_noted(database):
    with database.reading() as connection:
        noted = audit.head(connection)
    assert problems(database, noted) == []
    change(database, "DELETE FROM audit WHERE id = 5")
    assert problems(database) == []
    assert "no row has the digest" in problems(database, noted)[0]


def test_a_change_that_is_not_made_leaves_no_row(database):
    def fails():
        with database.writing() as connection:
            audit.write(connection, ADA, "models.delete", "a@1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert problems(database) == []
    with database.reading() as connection:
        assert len(audit.read(connection)) == 5


def test_every_change_of_the_registry_is_in_the_log(tmp_path, signature):
    home = Home(tmp_path / "home")
    registry = Registry(home.database, home.blobs)
    registry.publish("a", {"model.onnx": b"1"}, signature)
    registry.publish("a", {"model.onnx": b"2"}, signature)
    registry.by(ADA).promote("a", 2, note="better")
    registry.by(ADA).rollback("a")
    registry.delete("a@2")
    with home.database.reading() as connection:
        deeds = audit.read(connection)
    told = [(deed.verb, deed.subject, deed.who == ADA.who) for deed in deeds]
    assert told == [
        ("models.publish", "a@1", False),
        ("models.promote", "a@1", False),
        ("models.publish", "a@2", False),
        ("models.promote", "a@2", True),
        ("models.rollback", "a@1", True),
        ("models.delete", "a@2", False),
    ]
    assert deeds[3].detail == {"alias": "live", "note": "better"}
    assert problems(home.database) == []
    home.database.close()


@pytest.fixture
def signature():
    from modelmill.signature import Field, Signature

    return Signature("regress", (Field("x", "FP32"),), (Field("value", "FP32"),))
