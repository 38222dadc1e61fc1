"""A search that is killed goes on as if it had not been."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import modelmill
from modelmill.errors import StorageError, WorkError
from modelmill.search.ledger import owner
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.ledger.studies import trials_of
from modelmill.store.database import Database
from modelmill.trial import Point, Trial

CHILD = Path(__file__).with_name("child_search.py")


def run(url: str, kill_after: int | None = None) -> list[str]:
    """Run the search until it ends, or kill it once it has printed so many lines."""
    with subprocess.Popen([sys.executable, str(CHILD), url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            lines.append(line.strip())
            if len(lines) == kill_after:
                os.kill(child.pid, signal.SIGKILL)
                break
    assert kill_after is not None or child.returncode == 0
    return lines


def ledger(url: str) -> list[tuple[Any, ...]]:
    """What must not differ: all but the times."""
    database = Database(url)
    trials = Ledger(database, 1).trials()
    database.close()
    return [(t.number, t.state, t.settings, t.seed, t.metrics, t.costs, t.curve, t.error) for t in trials]


@pytest.mark.parametrize("instants", [(3, 8, 14), (5, 6, 30), (2, 21)])
def test_a_search_killed_at_several_instants_ends_as_the_uninterrupted_one(
    tmp_path: Path, whole: list[tuple[Any, ...]], instants: tuple[int, ...]
) -> None:
    url = f"sqlite:///{tmp_path}/killed.db"
    for lines in instants:
        run(url, kill_after=lines)
    assert run(url)[0] == "resumed"
    assert ledger(url) == whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    url = f"sqlite:///{tmp_path_factory.mktemp('whole')}/whole.db"
    run(url)
    found = ledger(url)
    assert [row[0] for row in found] == list(range(12))
    assert {row[1] for row in found} == {"done", "failed"}
    return found


def test_after_a_finished_study_a_new_one_begins(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    first, resumed = Ledger.open(database, "key", {})
    assert not resumed
    first.write(Trial(0, "done", {"a": 1}, metrics={"accuracy": 0.5}), spent_s=2.5)
    again, resumed = Ledger.open(database, "key", {})
    assert resumed
    assert again.spent_s == 2.5
    assert again.trials() == first.trials() == [Trial(0, "done", {"a": 1}, metrics={"accuracy": 0.5})]
    again.close("finished")
    new, resumed = Ledger.open(database, "key", {})
    assert not resumed
    assert new.trials() == []
    database.close()


def test_fresh_begins_anew_and_other_keys_are_not_touched(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    Ledger.open(database, "key", {})[0].write(Trial(0, "running", {}), spent_s=0)
    assert Ledger.open(database, "other", {})[1] is False
    assert Ledger.open(database, "key", {}, fresh=True)[1] is False
    assert Ledger.open(database, "key", {})[0].trials() == []
    database.close()


def test_a_study_that_a_living_process_runs_is_refused_with_who_runs_it(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    theirs, _ = Ledger.open(database, "key", {})
    theirs.write(Trial(0, "running", {}), spent_s=0)
    _give_to(database, owner.name(os.getppid()))
    with pytest.raises(WorkError, match=rf"process {os.getppid()} on .* is running this search.*--fresh"):
        Ledger.open(database, "key", {})
    assert len(theirs.trials()) == 1
    assert Ledger.open(database, "key", {}, fresh=True)[0].trials() == []
    database.close()


@pytest.mark.parametrize("gone", ["elsewhere 1 0.1", "", f"{socket.gethostname()} 999999999 0.1"])
def test_a_study_whose_process_is_gone_is_gone_on_with(tmp_path: Path, gone: str) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    Ledger.open(database, "key", {})[0].write(Trial(0, "running", {}), spent_s=0)
    _give_to(database, gone)
    assert Ledger.open(database, "key", {})[1]
    database.close()


def test_who_runs_a_study_does_not_depend_on_what_the_clock_says() -> None:
    jumped = (
        "import psutil, sys; psutil.boot_time = psutil._pslinux.boot_time = lambda: 0.0;"
        f"sys.path.insert(0, {str(Path(modelmill.__file__).parents[1])!r});"
        "from modelmill.search.ledger import owner; print(owner.lives(sys.argv[1]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", jumped, owner.me()], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "True"


def _give_to(database: Database, whom: str) -> None:
    with database.writing() as connection:
        connection.execute("UPDATE studies SET owner = :owner", {"owner": whom})


def test_the_points_of_a_trial_are_kept_until_it_holds_its_whole_curve(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    ledger, _ = Ledger.open(database, "key", {})
    trial = Trial(0, "running", {})
    ledger.write(trial, spent_s=0)
    points = (Point(1, {"valid_accuracy": 0.5}), Point(2, {"valid_accuracy": 0.6}))
    for i, point in enumerate(points):
        ledger.report(replace(trial, curve=points[:i]), point)
    assert trials_of(database, 1)[0].curve == points
    ledger.write(replace(trial, state="done", curve=points), spent_s=1)
    assert trials_of(database, 1)[0].curve == points
    with database.reading() as connection:
        assert connection.rows("SELECT 1 FROM points") == []
    database.close()


def test_a_trial_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    ledger, _ = Ledger.open(database, "key", {})
    ledger.write(Trial(0, "done", {}), spent_s=0)
    with database.writing() as connection:
        connection.execute("UPDATE trials SET body = substr(body, 1, 9)")
    with pytest.raises(StorageError, match=r"a trial of study 1 cannot be read.*--fresh"):
        ledger.trials()
    database.close()


def test_writing_a_trial_twice_keeps_the_later_one(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    ledger, _ = Ledger.open(database, "key", {})
    ledger.write(Trial(3, "running", {"rate": 0.1}), spent_s=1)
    ledger.write(Trial(3, "failed", {"rate": 0.1}, error="no"), spent_s=2)
    assert ledger.trials() == [Trial(3, "failed", {"rate": 0.1}, error="no")]
    database.close()
