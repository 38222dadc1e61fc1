"""Who looks on sees the studies of a ledger and their trials, also while they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelmill.errors import UsageError
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.ledger.studies import studies, study, trials_of
from modelmill.store.database import Database
from modelmill.trial import Point, Trial

SPEC = {"name": "digits", "goal": {"maximize": "accuracy", "limit": {"size_kb": 5}}}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(f"sqlite:///{tmp_path}/modelmill.db")
    yield found
    found.close()


def test_an_empty_ledger_has_no_studies_and_says_so(database: Database) -> None:
    assert studies(database) == []
    with pytest.raises(UsageError, match=r"there is no study 3.*none yet"):
        study(database, 3)


def test_the_newest_study_comes_first_with_its_goal_and_counts(database: Database) -> None:
    first, _ = Ledger.open(database, "a", SPEC, seed=3)
    first.write(Trial(0, "done", {}, metrics={"accuracy": 0.5}), 1.5)
    first.write(Trial(1, "failed", {}, error="out of memory"), 2.5)
    first.close("finished")
    Ledger.open(database, "b", {"data": {"name": "iris"}})
    newest, oldest = studies(database)
    assert (newest.name, newest.state, newest.counts) == ("iris", "running", {})
    assert (oldest.name, oldest.state, oldest.counts) == ("digits", "finished", {"done": 1, "failed": 1})
    assert (oldest.seed, oldest.seconds, oldest.goal.limit) == (3, 2.5, {"size_kb": 5})
    assert oldest.goal.objectives == (("accuracy", "maximize"),)
    assert study(database, oldest.id) == oldest


def test_a_trial_that_runs_shows_the_points_that_it_has_reported(database: Database) -> None:
    ledger, _ = Ledger.open(database, "a", SPEC)
    running, ended = Trial(0, "running", {}), Trial(1, "done", {}, curve=(Point(1, {"valid_loss": 1.0}),))
    ledger.write(running, 0)
    ledger.report(running, Point(1, {"valid_loss": 0.9}))
    ledger.write(ended, 0)
    ledger.report(Trial(1, "running", {}), Point(7, {"valid_loss": 0.1}))
    found = trials_of(database, 1)
    assert found[0].curve == (Point(1, {"valid_loss": 0.9}),)
    assert found[1] == ended


def test_a_study_whose_process_is_gone_counts_as_interrupted(database: Database) -> None:
    Ledger.open(database, "a", SPEC)
    with database.writing() as connection:
        (owner,) = connection.row("SELECT owner FROM studies") or ("",)
        gone = owner.rpartition(" ")[0] + " 1.00"
        connection.execute("UPDATE studies SET owner = :owner", {"owner": gone})
    assert studies(database)[0].state == "interrupted"
