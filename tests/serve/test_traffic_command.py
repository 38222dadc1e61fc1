"""The verbs and Python calls of traffic, on a registry without a service."""

from __future__ import annotations

import json

import pytest

from modelmill import api
from modelmill.cli import run
from modelmill.serve.traffic.book import Book, flush
from modelmill.serve.traffic.counts import Counts


@pytest.fixture
def mill(tmp_path, monkeypatch, publish_flowers, capsys):
    """A home with two versions of flowers; a call gives exit code and the JSON that was printed."""
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    for _ in range(2):
        publish_flowers(api.registry())

    def call(*arguments, as_json=True):
        code = run([*arguments, *(["--json"] if as_json else [])])
        out = capsys.readouterr().out
        return code, json.loads(out) if as_json else out

    return call


def test_a_rollout_is_begun_shown_and_aborted(mill):
    code, begun = mill("models", "rollout", "flowers@2", "--steps", "10,100", "--allow", "slower=0.5", "--notes", "new")
    assert (code, begun["state"], begun["plan"]["steps"]) == (0, "running", [10, 100])
    assert (begun["plan"]["tolerances"]["slower"], begun["plan"]["notes"]) == (0.5, "new")
    found = mill("models", "rollouts", "flowers")[1]["rollouts"]
    assert [(at["version"], at["stage"], at["waits"]) for at in found] == [(2, "shadow", "0 of 2000 mirrored requests")]
    assert "flowers@2 in the place of flowers@1: shadow" in mill("models", "rollouts", "flowers", as_json=False)[1]
    code, error = mill("models", "rollout", "flowers@2")
    assert (code, error["error"]["code"]) == (1, "registry")
    assert mill("models", "rollouts", "flowers", "abort")[1]["state"] == "aborted"
    assert mill("models", "rollouts", "flowers", "abort")[0] == 1
    told = mill("models", "changes", "flowers", as_json=False)[1].splitlines()
    assert "rollout aborted, flowers@2: aborted by hand" in told[0]
    assert "rollout in the shadow, flowers@2: begun" in told[1]
    assert "publish flowers@2" in told[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rollout", "flowers@2", "--steps", "5,1"], "steps rise"),
        (["rollout", "flowers@2", "--steps", "all"], "expected percentages"),
        (["rollout", "flowers@2", "--allow", "speed=1"], "no setting named 'speed'"),
        (["rollout", "flowers@2", "--by", "colour"], "rollout.by = 'colour'"),
        (["rollout", "flowers@2", "--steps", "5,500"], "rollout.steps, item 2 = 500.0"),
        (["rollouts", "flowers", "stop"], "no action named 'stop'"),
        (["route", "flowers", "canari"], "canary"),
        (["route", "flowers", "canary", "--set", "candidate=2", "--set", "percent=200"], "percent"),
    ],
)
def test_what_is_wrong_on_the_command_line_ends_with_2(mill, arguments, words):
    code, found = mill("models", *arguments)
    assert code == 2
    assert words in json.dumps(found)


def test_a_route_is_set_shown_and_cleared(mill):
    wanted = {"method": "canary", "candidate": "2", "percent": 20.0, "salt": ""}
    code, found = mill("models", "route", "flowers", "canary", "--set", "candidate=2", "--set", "percent=20")
    assert found["route"].pop("at_ms") > 0
    assert (code, found["route"]) == (0, wanted)
    assert mill("models", "route", "flowers")[1]["route"].items() >= wanted.items()
    assert mill("models", "rollout", "flowers@2")[0] == 1
    assert mill("models", "route", "flowers", "--clear")[1]["route"] is None
    assert mill("models", "route", "nobody", "shadow", "--set", "candidate=2")[0] == 1


def test_a_shadow_route_is_shown_with_what_it_compared(mill):
    mill("models", "route", "flowers", "shadow", "--set", "candidate=2")
    stood = "flowers: method shadow, candidate 2, percent 100.0"
    assert mill("models", "route", "flowers", as_json=False)[1] == f"{stood}\n"
    database = api.home().database
    counts = Counts(pairs=7, dropped=2, rows=21, rows_differ=3)
    with database.writing() as connection:
        flush(connection, "a server", [(Book(database).routes()[0].key, 0, counts)])
    said = "compared 7 requests (2 dropped), 3 of 21 rows differ"
    assert mill("models", "route", "flowers", as_json=False)[1] == f"{stood}; {said}\n"
    found = mill("models", "route", "flowers")[1]["route"]
    assert found["compared"] == {"pairs": 7, "dropped": 2, "rows": 21, "rows_differ": 3}
    mill("models", "route", "flowers", "--clear")
    assert f"(before: {stood[9:]}; it {said})" in mill("models", "changes", "flowers", as_json=False)[1]


def test_changes_tell_of_routes(mill):
    mill("models", "route", "flowers", "canary", "--set", "candidate=2", "--set", "percent=20")
    mill("models", "route", "flowers", "--clear")
    told = mill("models", "changes", "flowers", as_json=False)[1].splitlines()
    canary = "method canary, candidate 2, percent 20.0"
    assert told[0].endswith(f"  route of flowers: the live version answers (before: {canary})")
    assert told[1].endswith(f"  route of flowers: {canary} (before: the live version answers)")


def test_a_version_that_a_route_names_is_deleted_by_force_and_the_verb_says_what_ended(mill):
    mill("models", "route", "flowers", "canary", "--set", "candidate=2")
    code, found = mill("models", "delete", "flowers@2")
    assert (code, found["error"]["message"]) == (1, "the route of flowers names it (canary: candidate 2)")
    said = mill("models", "delete", "flowers@2", "--force", as_json=False)
    assert said == (0, "flowers@2 is deleted, and the route of flowers ended with it\n")
    assert mill("models", "route", "flowers")[1]["route"] is None


def test_notes_of_a_promotion_are_told(mill):
    mill("models", "promote", "flowers@2", "--notes", "knows tulips")
    newest = api.changes("flowers")[0]
    assert (newest["what"], newest["version"], newest["alias"], newest["note"]) == (
        "promote",
        2,
        "live",
        "knows tulips",
    )


def test_the_python_calls_do_what_the_verbs_do(mill):
    api.rollout("flowers@2", {"shadow": False, "steps": [50, 100]})
    assert [at["percent"] for at in api.rollouts("flowers")] == [50]
    assert api.abort_rollout("flowers").state == "aborted"
    assert api.route("flowers", {"method": "shadow", "candidate": "2"}).as_table()["percent"] == 100
    assert api.route("flowers", None) is None
