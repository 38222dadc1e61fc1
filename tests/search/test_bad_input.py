"""What a search is given that it cannot use: each is refused, or recorded, in words that say what to do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from child_search import set_up_wild
from test_resume import CHILD, ledger, run
from test_search import STUDY, Inline, grow, judge, keep, study
from test_search import run as searched

from modelmill.checking import check
from modelmill.contracts import Pick, Sampler
from modelmill.errors import OutOfBounds, RegistryError, SpecError, StorageError, UsageError, WorkError
from modelmill.execute.local import Pool
from modelmill.method import decode
from modelmill.recipe.folds import Plan
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.ledger.studies import studies, trials_of
from modelmill.search.search import search
from modelmill.space import Space
from modelmill.spec import Budget, Goal, read
from modelmill.store.database import Database
from modelmill.trial import Trial


def spec(**goal: Any) -> Any:
    return read({"data": {"method": "builtin", "name": "iris"}, "goal": goal})


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ({"maximize": "accuracy", "minimize": "accuracy"}, r"minimizes it as well\. Keep one"),
        ({"maximize": ["f1", "f1"]}, "named twice"),
        ({"maximize": "accuracy", "limit": {"accuracy": 95}}, r"best accuracy there can be is 1\. Write 0\.95"),
        ({"maximize": "accuracy", "reach": {"accuracy": 1.5}}, r"goal\.reach\.accuracy = 1\.5: no model keeps it"),
        ({"minimize": "rmse", "limit": {"rmse": -1}}, "best rmse there can be is 0"),
        ({"maximize": "accuracy", "limit": {"size_kb": 0}}, "above 0"),
        ({"maximize": "accuracy", "limit": {"size_kb": float("inf")}}, "finite number"),
        ({"maximize": "accuracy", "reach": {"accuracy": float("nan")}}, "finite number"),
        ({"maximize": ["accuracy", "latency_ms"], "limit": {"latency_ms": 1}}, "at most that, and the goal maximizes"),
        ({"minimize": "accuracy", "limit": {"accuracy": 0.5}}, "at least that, and the goal minimizes"),
        ({"minimize": "throughput_rps", "limit": {"throughput_rps": 5}}, "at least that, and the goal minimizes"),
    ],
)
def test_goals_that_contradict_themselves_are_refused_before_any_work(goal: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        check(spec(**goal))
    assert refused.value.hint


def test_limits_within_reach_are_taken() -> None:
    check(spec(maximize="accuracy", reach={"accuracy": 1.0}, limit={"f1": 0.9, "latency_ms": 1, "throughput_rps": 50}))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"any": []}, "the list of options is empty"),
        ({"method": "mlp", "depth": {"low": 3, "high": 1}}, r"arch.depth = { low = 3, high = 1 }: low is above high"),
        ({"method": "mlp", "depth": {"low": 1, "high": 3, "step": 0}}, r"arch.depth = .*: a step is above 0"),
        ({"method": "mlp", "width": {"any": []}}, "arch.width.any: the list of options is empty"),
    ],
)
def test_a_space_with_no_valid_point_is_refused(table: dict[str, Any], words: str) -> None:
    given = {"data": {"method": "builtin", "name": "iris"}, "goal": {"maximize": "accuracy"}, "arch": table}
    with pytest.raises(UsageError, match=words):
        check(read(given))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Ledger]:
    database = Database(f"sqlite:///{tmp_path}/ledger.db")
    yield Ledger.open(database, "key", {})[0]
    database.close()


def returns(value: Any) -> Any:
    def job(payload: Mapping[str, Any]) -> Iterator[Any]:
        if payload["number"] == 1:
            yield value
        else:
            yield from grow(payload)

    return job


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "no metrics came back"),
        ({}, "no metrics came back"),
        (3, "no metrics came back"),
        ({"metrics": {"accuracy": float("nan")}}, "no finite accuracy"),
        ({"metrics": {"accuracy": float("inf")}}, "no finite accuracy"),
        ({"metrics": {"accuracy": None}}, "no finite accuracy"),
        ({"metrics": {"accuracy": "high"}}, "no finite accuracy"),
        ({"metrics": {"f1": 0.5}}, "no finite accuracy"),
    ],
)
def test_a_trial_that_returns_no_number_fails_alone(empty: Ledger, value: Any, words: str) -> None:
    trials = searched(STUDY, Inline(returns(value)), empty)
    assert [trial.state for trial in trials] == ["done", "failed", *["done"] * 4]
    assert words in trials[1].error
    assert empty.trials() == trials


def test_figures_beside_the_objective_that_are_no_numbers_do_not_harm_the_ledger(empty: Ledger) -> None:
    odd = {"metrics": {"accuracy": 0.5, "f1": float("nan")}, "spread": float("nan"), "work": "much", "costs": None}
    trials = searched(STUDY, Inline(returns(odd)), empty, lambda result: {"latency_ms": float("inf")})
    assert empty.trials() == trials
    assert (trials[1].state, trials[1].metrics, trials[1].spread, trials[1].work) == ("done", {"accuracy": 0.5}, 0, 0)


def test_an_objective_that_always_raises_is_given_up_with_its_error_and_what_to_try(empty: Ledger) -> None:
    def fails(payload: Mapping[str, Any]) -> Iterator[Any]:
        raise ValueError("no such column")
        yield

    with pytest.raises(WorkError, match="all of 5 trials failed, the last one with: no such column") as raised:
        searched(study(budget=Budget(trials=50)), Inline(fails), empty)
    assert raised.value.hint
    assert [trial.error for trial in empty.trials()] == ["no such column"] * 5


@pytest.mark.parametrize(
    ("x", "limits", "words"),
    [
        (0.0, {}, "the worker ended with exit code 3"),
        (0.5, {"time_limit_s": 1.0}, "took longer than 1 s"),
        (1.0, {"memory_limit_mb": 400.0}, "over the limit of 400 MB"),
    ],
)
def test_a_trial_that_crashes_hangs_or_grows_is_in_the_ledger_with_what_happened(
    empty: Ledger, x: float, limits: dict[str, float], words: str
) -> None:
    two = study(first=[{"x": x}, {"x": 0.25}], budget=Budget(trials=2))
    with Pool(1, set_up_wild, **limits) as pool:  # type: ignore[arg-type]
        searched(two, pool, empty, lambda result: {})
    first, second = empty.trials()
    assert (first.state, second.state) == ("failed", "done")
    assert words in first.error


def test_a_clock_that_jumps_changes_nothing(empty: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    day_s, jumps = 86_400.0, iter(range(10**6))
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + (-1) ** next(jumps) * day_s)
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    trials = searched(study(budget=Budget(seconds=3600), first=[{"x": 0.5}], goal=REACHED), Inline(grow), empty)
    assert [trial.state for trial in trials] == ["done"] * len(trials)
    assert 0 <= Ledger.open(empty._database, "key", {})[0].spent_s < 3600


REACHED = Goal(maximize=("accuracy",), reach={"accuracy": 0.9})


def test_a_ledger_of_a_newer_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/newer.db"
    database = Database(url)
    with database.writing() as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    database.close()
    with pytest.raises(RegistryError, match=r"schema is version 99.*knows up to version \d+.*Install the newer"):
        Ledger.open(Database(url), "key", {})


def test_a_corrupt_ledger_is_refused_and_copied_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "modelmill.db"
    path.write_bytes(b"these are not the pages of a database " * 200)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"copied to .*corrupt-\d{8}T\d{6}Z.*\.recover"):
            Ledger.open(Database(f"sqlite:///{path}"), "key", {})
    copies = list(tmp_path.glob("*.corrupt-*"))
    assert [copy.read_bytes() for copy in (path, *copies)] == [before, before]


def test_a_ledger_with_a_broken_page_is_refused_as_well(tmp_path: Path) -> None:
    path = tmp_path / "modelmill.db"
    database = Database(f"sqlite:///{path}")
    written, _ = Ledger.open(database, "key", {})
    for number in range(40):
        written.write(Trial(number, "done", {"note": "x" * 2000}), spent_s=0)
    with database.writing(durable=True) as connection:
        (root,) = connection.row("SELECT rootpage FROM sqlite_master WHERE name = 'trials'") or (0,)
    with database.reading() as connection:
        connection.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    raw = bytearray(path.read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(raw)
    with pytest.raises(StorageError, match="malformed"):
        Ledger(Database(f"sqlite:///{path}"), 1).trials()
    assert len(list(tmp_path.glob("*.corrupt-*Z"))) == 1


def test_a_disk_that_fills_ends_the_search_in_words_and_it_goes_on_when_there_is_space(tmp_path: Path) -> None:
    whole, url = f"sqlite:///{tmp_path}/whole.db", f"sqlite:///{tmp_path}/full.db"
    run(whole)
    full = subprocess.run(
        [sys.executable, str(CHILD), url, "300000"], capture_output=True, text=True, timeout=120, check=False
    )
    assert full.returncode == 1
    assert "Free some space on the disk" in full.stderr
    assert "Traceback" not in full.stderr
    assert 0 < len(ledger(url)) < 12
    assert run(url)[0] == "resumed"
    assert ledger(url) == ledger(whole)


def test_a_search_without_candidates_says_so(empty: Ledger) -> None:
    with pytest.raises(SpecError, match="holds no candidate"):
        list(search(study(sampler=Nothing()), Inline(grow), judge, keep, empty))


class Nothing(Sampler):
    """Finds nothing to try."""

    def __call__(self, space: Space) -> Pick:
        return lambda history, seed: None


def test_a_row_that_cannot_be_read_is_told_to_those_who_look_on_too(tmp_path: Path) -> None:
    path = tmp_path / "modelmill.db"
    database = Database(f"sqlite:///{path}")
    written, _ = Ledger.open(database, "key", {"name": "wine"})
    written.write(Trial(0, "done", {"x": 0.5}), spent_s=0)
    with database.writing() as connection:
        connection.execute('UPDATE trials SET body = \'{"number": 0, "sta\'')
    for look in (written.trials, lambda: trials_of(database, 1)):
        with pytest.raises(StorageError, match=r"a trial of study 1 cannot be read.*was copied to"):
            look()
    with database.writing() as connection:
        connection.execute("UPDATE studies SET spec = 'not json'")
    with pytest.raises(StorageError, match="the spec of study 1 cannot be read"):
        studies(database)
    database.close()
    assert list(tmp_path.glob("*.corrupt-*"))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"sampler": 5}, r"search\.sampler: expected a table, got 5"),
        ({"sampler": "gp"}, r"search\.sampler: expected a table, got 'gp'"),
        ({"trial_seconds": "abc"}, "search.trial_seconds = 'abc': expected a number"),
        ({"trial_memory_mb": -5}, "search.trial_memory_mb = -5: expected a number"),
        ({"sampler": {"method": "portfolio", "members": ["gp", "gradient"]}}, "gradient asks every trial"),
    ],
)
def test_tables_of_a_search_that_cannot_be_are_refused_in_words(table: dict[str, Any], words: str) -> None:
    def begin() -> None:
        asked = read({"data": {"method": "builtin", "name": "iris"}, "search": table})
        check(asked)
        Plan.of(asked.search)
        decode("sampler", asked.search["sampler"])(Space(lambda choose: None))

    with pytest.raises(UsageError, match=words):
        begin()


def test_a_range_without_an_end_is_refused() -> None:
    arch = {"method": "linear", "strength": {"low": 1.0, "high": float("inf")}}
    with pytest.raises(OutOfBounds, match="finite ends"):
        check(read({"data": {"method": "builtin", "name": "iris"}, "arch": arch}))


def test_a_report_whose_step_is_no_number_fails_its_trial_alone(empty: Ledger) -> None:
    report = {"step": float("nan"), "values": {"valid_accuracy": 0.5}}
    states = [one.state for one in searched(study(budget=Budget(trials=4)), Inline(returns(report)), empty)]
    assert states.count("failed") == 1
    assert "step nan" in next(one.error for one in empty.trials() if one.state == "failed")


def test_what_is_refused_before_the_first_trial_leaves_no_study(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/ledger.db")
    given = {"data": {"method": "builtin", "name": "iris"}, "goal": {"maximize": "accuracy"}}
    refused = study(sampler=decode("sampler", {"method": "gradient"}))
    for _ in range(2):
        ledger, resumed = Ledger.open(database, "key", given)
        with pytest.raises(SpecError, match="the sampler gradient"):
            next(search(refused, Inline(grow), judge, keep, ledger))
        assert not resumed
    assert studies(database) == []
    ledger, _ = Ledger.open(database, "key", given)
    ledger.write(Trial(0, "running", {"x": 1}), 0.0)
    with pytest.raises(SpecError, match="the sampler gradient"):
        next(search(refused, Inline(grow), judge, keep, ledger))
    assert [(one.state, one.counts) for one in studies(database)] == [("interrupted", {"running": 1})]
    database.close()
