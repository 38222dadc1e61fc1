"""Runs are found by what people call them, shown, compared, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelmill.cli import run as command
from modelmill.errors import RegistryError
from modelmill.mill import build
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.ledger.runs import compare, differing, find, runs, summary
from modelmill.spec import read
from modelmill.store.database import Database
from modelmill.store.home import Home
from modelmill.trial import Trial

SPEC = {
    "name": "iris",
    "data": {"method": "builtin", "name": "iris"},
    "goal": {"maximize": "accuracy", "limit": {"size_kb": 10}, "budget": "9 trials"},
    "search": {"sampler": {"method": "portfolio"}},
}


def write(database: Database, key: str, seed: int, accuracy: float) -> None:
    ledger, _ = Ledger.open(database, key, {**SPEC, "seed": seed}, seed=seed)
    good = Trial(
        0, "done", {"a": 1}, metrics={"accuracy": accuracy}, costs={"size_bytes": 5000.0}, seconds=2.0, pick_s=0.5
    )
    ledger.write(good, spent_s=2)
    large = Trial(
        1, "done", {"a": 2}, metrics={"accuracy": 1.0}, costs={"size_bytes": 50_000.0}, memo={"member": "tpe"}
    )
    ledger.write(large, spent_s=3)
    ledger.write(Trial(2, "failed", {"a": 3}, error="it broke", memo={"member": "tpe"}), spent_s=4)
    ledger.close("interrupted" if seed else "finished")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    monkeypatch.delenv("MODELMILL_DATABASE_URL", raising=False)
    home = Home(tmp_path)
    write(home.database, "sha256:aaaa11112222333344", 0, 0.8)
    write(home.database, "sha256:aaaa99992222333344", 1, 0.9)
    yield home
    home.database.close()


def test_a_run_is_found_by_its_number_its_folder_and_how_that_begins(place: Home) -> None:
    database = place.database
    assert [run.study.id for run in runs(database)] == [2, 1]
    for called in ("1", "iris-aaaa11112222", "iris-aaaa1"):
        assert find(database, called).study.id == 1
    with pytest.raises(RegistryError, match=r"2 runs begin so: iris-aaaa9.*, iris-aaaa1.*Write more"):
        find(database, "iris")
    with pytest.raises(RegistryError, match=r"no run of that name or number\. Did you mean iris-aaaa"):
        find(database, "irs-aaaa11112222")


def test_a_summary_names_the_best_the_front_who_suggested_and_what_suggesting_cost(place: Home) -> None:
    found = summary(place.database, find(place.database, "2"))
    assert found.best is not None
    assert found.best.number == 0
    assert [trial.number for trial in found.front] == [0]
    assert found.members == {"portfolio": {"done": 1}, "portfolio: tpe": {"done": 1, "failed": 1}}
    assert found.costs == {"pick_s": 0.5, "slowest_pick_s": 0.5, "trials_s": 2.0}
    assert found.run.unfinished


def test_a_comparison_puts_figures_side_by_side_and_names_what_differs(place: Home) -> None:
    found = compare(*(summary(place.database, find(place.database, name)) for name in ("1", "2")))
    assert found["figures"]["best accuracy"] == [0.8, 0.9]
    assert found["figures"]["failed"] == [1, 1]
    first, second = found["figures"]["hypervolume of the front"]
    assert (first, second) == (pytest.approx(0.0909, abs=1e-3), 1.0)
    assert found["settings"] == {"seed": [0, 1]}
    assert differing({"a": [1]}, {"a": [1], "b": 2}) == {"b": [None, 2]}


@pytest.mark.parametrize("verb", [["runs"], ["show", "1"], ["compare", "1", "2"]])
def test_every_verb_prints_a_table_and_one_json_document(
    place: Home, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    assert command(["search", *verb]) == 0
    assert "iris-aaaa11112222" in capsys.readouterr().out
    assert command(["search", *verb, "--json"]) == 0
    assert "iris-aaaa11112222" in json.dumps(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "9"], 1, "no run of that name or number"),
        (["compare", "1"], 2, "Missing argument"),
        (["resume", "1"], 1, "it is finished"),
        (["resume", "2"], 1, "begun from Python"),
        (["shaw", "1"], 2, "No such command"),
    ],
)
def test_what_cannot_be_shown_ends_with_the_code_of_the_contract(
    place: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert command(["search", *arguments]) == code
    assert words in capsys.readouterr().err


def test_an_unfinished_run_goes_on_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    home = Home(tmp_path)
    steps: Any = build(read({**SPEC, "goal": {"maximize": "accuracy", "budget": "3 trials"}, **LINEAR}), home)
    for step in steps:
        if isinstance(step, Trial) and step.state == "done":
            break
    steps.close()
    assert command(["search", "resume", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["trials"] == {"done": 3, "stopped": 0, "failed": 0}
    (run,) = runs(home.database)
    assert (run.study.state, run.study.counts) == ("finished", {"done": 3})
    assert (home.runs / run.folder / "report.json").exists()
    home.database.close()


LINEAR = {
    "arch": {"method": "linear", "strength": {"low": 0.01, "high": 10, "log": True}},
    "search": {"sampler": {"method": "random"}, "folds": 2},
    "workers": 1,
}


def test_the_chain_of_an_annealed_search_is_told_and_a_size_stands_once(place: Home, capsys) -> None:
    spec = {**SPEC, "goal": {"maximize": "accuracy", "minimize": "size_kb", "budget": "9 trials"}}
    ledger, _ = Ledger.open(place.database, "sha256:cccc", spec)
    for number, accuracy in enumerate((0.7, 0.8, 0.9)):
        place_in_chain = {
            "chain": 0, "parent": number - 1 if number else None, "at": number, "step": 0.2, "numbers": True,
            "temperature": 0.0, "u": 0.5, "went": None if number == 0 else True, "inner": [],
        }  # fmt: skip
        found = {"metrics": {"accuracy": accuracy}, "costs": {"size_bytes": 5000.0 - number}}
        ledger.write(Trial(number, "done", {"a": number}, memo={"anneal": place_in_chain}, **found), spent_s=number)
    ledger.close("finished")
    assert command(["search", "show", "3"]) == 0
    told = capsys.readouterr().out
    assert "1 chain of 3 draws, for which 3 candidates were tried" in told
    assert "100% of proposals were accepted" in told
    assert "size_kb" in told
    assert "size_bytes" not in told
