"""Transactions are whole, writers are alone, and a database that cannot be used says what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelmill.errors import MissingExtra, RegistryError, StorageError
from modelmill.store import tables
from modelmill.store.database import Database

BUMP = "UPDATE stamp SET changes = changes + 1"


def changes(database: Database) -> int:
    with database.reading() as connection:
        row = connection.row("SELECT changes FROM stamp")
    assert row is not None
    return int(row[0])


@pytest.fixture(params=["sqlite", "sqlite+pysqlite"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Database:
    """The same statements by Python's own driver and through SQLAlchemy."""
    return Database(f"{request.param}:///{tmp_path}/mill.db")


def test_a_transaction_that_raises_changes_nothing(database: Database) -> None:
    def bump_and_fail() -> None:
        with database.writing() as connection:
            connection.execute(BUMP)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bump_and_fail()
    assert changes(database) == 0
    database.close()


def test_a_second_database_object_sees_what_was_committed(database: Database, tmp_path: Path) -> None:
    with database.writing(durable=True) as connection:
        assert connection.execute(BUMP) == 1
    database.close()
    assert changes(Database(f"sqlite:///{tmp_path}/mill.db")) == 1


def test_a_broken_rule_is_a_storage_error_and_rolls_back(database: Database) -> None:
    def insert_twice() -> None:
        with database.writing() as connection:
            for _ in range(2):
                connection.execute("INSERT INTO names (name, last_number) VALUES (:name, 1)", {"name": "a"})

    with pytest.raises(StorageError, match="UNIQUE"):
        insert_twice()
    with database.reading() as connection:
        assert connection.rows("SELECT * FROM names") == []
    database.close()


def test_a_trial_needs_its_study(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/mill.db")
    with pytest.raises(StorageError, match="FOREIGN KEY"), database.writing() as connection:
        connection.execute("INSERT INTO trials (study_id, number, state, body) VALUES (7, 0, 'running', '{}')")


def test_a_reader_sees_one_state_while_a_writer_goes_on(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/mill.db")
    with database.reading() as reader:
        first = reader.row("SELECT changes FROM stamp")
        with database.writing() as writer:
            writer.execute(BUMP)
        assert reader.row("SELECT changes FROM stamp") == first
    assert changes(database) == 1


def test_no_write_is_lost_among_threads(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/mill.db")

    def bump() -> None:
        for _ in range(10):
            with database.writing() as connection:
                row = connection.row("SELECT changes FROM stamp")
                assert row is not None
                connection.execute("UPDATE stamp SET changes = :next", {"next": row[0] + 1})

    threads = [threading.Thread(target=bump) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert changes(database) == 40


def test_two_processes_may_make_the_same_database_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from modelmill.store.database import Database\n"
        "sys.stdin.read(1)\n"
        "with Database(sys.argv[1]).writing() as c: c.execute('UPDATE stamp SET changes = changes + 1')"
    )
    url = f"sqlite:///{tmp_path}/mill.db"
    started = [subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE) for _ in range(3)]
    for child in started:
        assert child.stdin is not None
        child.stdin.write(b"g")
        child.stdin.close()
    assert [child.wait(120) for child in started] == [0, 0, 0]
    assert changes(Database(url)) == 3


def test_damaged_files_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "mill.db"
    path.write_bytes(b"this was a database once" * 100)
    with pytest.raises(StorageError, match=r"mill\.db.*not a database.*Move .* away.*blobs are untouched"):
        changes(Database(f"sqlite:///{path}"))


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "mill.db"
    database = Database(f"sqlite:///{path}")
    changes(database)
    database.close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StorageError, match="damaged"), Database(f"sqlite:///{path}").reading() as connection:
        connection.rows("SELECT * FROM events")


def test_a_newer_schema_is_refused_with_both_numbers(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/mill.db")
    with database.writing() as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(RegistryError, match=rf"version 99.*up to version {tables.VERSION}"):
        changes(Database(f"sqlite:///{tmp_path}/mill.db"))


def test_an_older_schema_is_led_to_the_present_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/mill.db"
    assert changes(Database(url)) == 0
    monkeypatch.setattr(tables, "VERSION", tables.VERSION + 1)
    monkeypatch.setitem(tables.STEPS, tables.VERSION - 1, ("ALTER TABLE stamp ADD COLUMN why TEXT",))
    with Database(url).reading() as connection:
        assert connection.row("SELECT changes, why FROM stamp") == (0, None)
        assert connection.row("SELECT version FROM schema_version") == (tables.VERSION,)


@pytest.mark.parametrize("version", [*range(1, tables.VERSION)])
def test_every_older_schema_comes_to_be_as_a_new_one(tmp_path: Path, version: int) -> None:
    """The oldest is what no step makes; the ones after it are that, and the steps to them."""
    made = {statement for step in tables.STEPS.values() for statement in step}
    steps = [statement for step in range(1, version) for statement in tables.STEPS[step]]
    raw = sqlite3.connect(tmp_path / "old.db")
    for statement in [*(each for each in tables.TABLES if each not in made), *steps]:
        raw.execute(statement)
    raw.execute("INSERT INTO schema_version (version) VALUES (?)", (version,))
    raw.execute("INSERT INTO stamp (changes) VALUES (7)")
    raw.commit()
    raw.close()
    found = []
    for name in ("old.db", "new.db"):
        with Database(f"sqlite:///{tmp_path}/{name}").reading() as connection:
            found.append(connection.rows("SELECT type, name, sql FROM sqlite_master ORDER BY name"))
    assert found[0] == found[1]
    assert changes(Database(f"sqlite:///{tmp_path}/old.db")) == 7


def test_the_log_is_written_ahead_and_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "mill.db"
    database = Database(f"sqlite:///{path}")
    with database.reading() as connection:
        assert connection.row("PRAGMA journal_mode") == ("wal",)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    database.close()


def test_a_writer_that_waits_too_long_says_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mill.db"
    changes(Database(f"sqlite:///{path}"))
    monkeypatch.setattr("modelmill.store.sqlite.WAIT_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="Another process is writing"), Database(f"sqlite:///{path}").writing():
        pass
    other.close()


def test_no_open_connection_crosses_a_fork(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/mill.db")
    code = (
        "import os, sys; from modelmill.store.database import Database\n"
        "database = Database(sys.argv[1])\n"
        "def bump():\n"
        "    with database.writing() as c: c.execute('UPDATE stamp SET changes = changes + 1')\n"
        "bump()\n"
        "assert any('mill.db' in os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if n > '2' "
        "and os.path.islink(f'/proc/self/fd/{n}'))\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    held = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') "
        "if os.path.islink(f'/proc/self/fd/{n}')]\n"
        "    assert not any('mill.db' in path for path in held)\n"
        "    bump(); os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "bump()\n"
    )
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{tmp_path}/mill.db"], check=True)
    assert changes(database) == 3


@pytest.mark.parametrize("url", ["", "mongodb://x", "sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="MODELMILL_DATABASE_URL"):
        Database(url)


def test_a_missing_driver_names_its_extra_and_no_password() -> None:
    if any((Path(folder) / "psycopg").is_dir() for folder in sys.path):
        pytest.skip("psycopg is installed")
    with pytest.raises(MissingExtra, match="psycopg") as caught:
        changes(Database("postgresql+psycopg://mill:secret@localhost/mill"))
    assert "secret" not in str(caught.value)


def test_sqlite_brings_no_sqlalchemy(tmp_path: Path) -> None:
    code = (
        "import sys; from modelmill.store.home import Home; from modelmill.registry.registry import Registry\n"
        "home = Home(sys.argv[1]); assert Registry(home.database, home.blobs).names() == []\n"
        "heavy = {'sqlalchemy', 'torch', 'sklearn', 'onnxruntime', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
