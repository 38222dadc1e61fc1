"""The verbs of `keys`, from the command line."""

from __future__ import annotations

import json

import pytest
from patience import eventually

from modelmill.cli import run
from modelmill.store.home import Home


@pytest.fixture
def keys_command(tmp_path, monkeypatch, capsys):
    """Runs `modelmill keys ...` over a home of its own: exit code, JSON or text, and what was said beside it."""
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))

    def call(*arguments):
        code = run(["keys", *arguments])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in arguments else out, err

    return call


def test_a_key_is_shown_once_and_never_again(keys_command, tmp_path):
    code, made, _ = keys_command("create", "web", "--role", "infer", "--role", "read", "--expires", "30d", "--json")
    assert (code, made["state"], made["roles"]) == (0, "valid", ["infer", "read"])
    assert made["expires_ms"] - made["created_ms"] == pytest.approx(30 * 86_400_000, abs=60_000)
    secret = made["key"]
    assert secret.startswith(f"mm_{made['id']}_")
    _, listed, _ = keys_command("list", "--json")
    assert [key["id"] for key in listed] == [made["id"]]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    tail = secret.rpartition("_")[2].encode()
    assert all(secret.encode() not in data and tail not in data for data in kept)
    for verb in ("list", "tenants", "audit"):
        assert secret not in keys_command(verb)[1]


def test_a_key_lives_rotates_and_ends(keys_command):
    made = keys_command("create", "web", "--json")[1]
    rotated = keys_command("rotate", made["id"], "--grace", "1h", "--json")[1]
    assert rotated["key"] != made["key"]
    assert rotated["old_until_ms"] > rotated["created_ms"]
    code, _, said = keys_command("delete", made["id"])
    assert (code, "Revoke it first" in said) == (1, True)
    assert keys_command("revoke", made["id"], "--json")[1]["state"] == "revoked"
    assert keys_command("rotate", made["id"])[0] == 1
    assert keys_command("delete", made["id"], "--json")[1] == {"deleted": made["id"]}
    deeds = keys_command("audit", "--json")[1]
    assert [deed["verb"] for deed in deeds] == ["keys.create", "keys.rotate", "keys.revoke", "keys.delete"]
    assert all(deed["subject"] == made["id"] for deed in deeds)
    head = keys_command("audit", "--verify", "--json")[1]
    assert head == {"problems": [], "head": deeds[-1]["digest"]}
    assert keys_command("audit", "--verify", "--head", deeds[1]["digest"])[0] == 0
    assert keys_command("audit", "--verify", "--head", "0" * 64)[0] == 1


def test_a_key_may_last_to_the_last_day_there_is_and_the_list_shows_it(keys_command):
    made = keys_command("create", "web", "--expires", "9999-12-31", "--json")[1]
    assert made["expires_ms"] == 253_402_300_799_999
    code, listed, _ = keys_command("list")
    assert (code, "9999-12-31" in listed.replace("\n", "")) == (0, True)


def test_the_list_shows_keys_whose_times_no_year_has(keys_command, tmp_path):
    """Such as those that were made when any span was taken."""
    made = keys_command("create", "web", "--json")[1]
    with Home(tmp_path).database.writing() as connection:
        connection.execute("UPDATE keys SET expires_ms = :far, created_ms = :past", {"far": 2**62, "past": -(2**62)})
    code, listed, _ = keys_command("list")
    assert (code, made["id"] in listed) == (0, True)


def test_patterns_of_names_are_taken_as_they_match(keys_command):
    patterns = ("[ab]*", "acme-[!x-z]?", "flowers")
    made = keys_command("create", "web", *(word for name in patterns for word in ("--model", name)), "--json")[1]
    assert made["models"] == list(patterns)


def test_a_role_of_which_a_tier_makes_nothing_is_refused(keys_command):
    keys_command("tenant", "small", "--tier", "basic")
    plain = keys_command("create", "web", "--tenant", "small", "--json")[1]["id"]
    assert "is of no use" in keys_command("change", plain, "--role", "read")[2]
    for role in ("operate", "read", "admin"):
        code, _, said = keys_command("create", "web", "--tenant", "small", "--role", "infer", "--role", role)
        assert (code, f"--role {role}: is of no use: tenant small is of tier basic" in said) == (2, True)
    assert keys_command("create", "web", "--tenant", "small")[0] == 0
    assert keys_command("create", "web", "--role", "operate")[0] == 0


def test_a_tenant_is_made_and_changed_by_what_is_given(keys_command):
    first = keys_command("tenant", "acme", "--tier", "basic", "--model", "acme-*", "--quota", "100/s", "--json")[1]
    assert (first["tier"], first["models"], first["limits"]["batch_rows"]) == ("basic", ["acme-*"], 256)
    second = keys_command("tenant", "acme", "--tier", "advanced", "--json")[1]
    assert (second["tier"], second["models"], second["quota"]["requests_per_s"]) == ("advanced", ["acme-*"], 100)
    third = keys_command("tenant", "acme", "--no-quota", "--no-models", "--json")[1]
    assert (third["models"], third["quota"]["requests_per_s"]) == ([], 0)
    assert [tenant["name"] for tenant in keys_command("tenants", "--json")[1]] == ["acme", "default"]


def test_a_key_is_changed_by_what_is_given_and_keeps_its_secret(keys_command):
    made = keys_command("create", "web", "--model", "a*", "--quota", "9/s", "--burst", "5", "--expires", "9d", "--json")
    named = made[1]["id"]
    kept = ("label", "tenant", "created_ms")
    for arguments, changed in (
        (("--role", "read", "--role", "infer"), {"roles": ["read", "infer"]}),
        (("--rows", "100/day"), {"quota": {"requests_per_s": 9.0, "burst": 5, "rows_per_day": 100}}),
        (("--quota", "60/m"), {"quota": {"requests_per_s": 1.0, "burst": 0, "rows_per_day": 100}}),
        (("--model", "b", "--model", "c"), {"models": ["b", "c"]}),
        (("--no-models", "--no-quota"), {"models": [], "quota": {"requests_per_s": 0, "burst": 0, "rows_per_day": 0}}),
        (("--no-expires",), {"expires_ms": 0}),
        (("--expires", "2999-12-31"), {"expires_ms": 32_503_680_000_000}),
    ):
        code, found, _ = keys_command("change", named, *arguments, "--json")
        assert code == 0, arguments
        assert {name: found[name] for name in (*kept, *changed)} == {**{n: made[1][n] for n in kept}, **changed}
    deeds = keys_command("audit", "--json")[1]
    assert [deed["verb"] for deed in deeds] == ["keys.create", *["keys.change"] * 7]
    assert deeds[1]["detail"]["quota"] == "9/s, 5 at once"
    assert keys_command("revoke", named)[0] == 0
    code, _, said = keys_command("change", named, "--role", "read")
    assert (code, "is revoked, and stays so" in said) == (1, True)


def test_a_claim_that_takes_models_from_the_keys_of_others_is_warned_of(keys_command):
    keys_command("tenant", "acme", "--tier", "basic")
    keys_command("tenant", "blue", "--tier", "basic")
    ids = [
        keys_command("create", label, "--tenant", tenant, "--model", models, "--json")[1]["id"]
        for label, tenant, models in (("a", "blue", "risk-eu"), ("b", "blue", "r*"), ("c", "acme", "risk-eu"))
    ]
    gone = keys_command("create", "d", "--tenant", "blue", "--model", "risk-us", "--json")[1]["id"]
    keys_command("revoke", gone)
    code, _, said = keys_command("tenant", "acme", "--model", "risk-*", "--json")
    assert (code, said.count("key ")) == (0, 1)
    assert f"key {ids[0]} (a) of tenant blue: --model risk-eu is claimed now" in said
    assert keys_command("tenant", "acme", "--tier", "standard")[2] == ""


def test_a_key_that_is_narrowed_to_what_others_claim_is_warned_of(keys_command):
    keys_command("tenant", "acme", "--model", "acme-*", "--model", "risk")
    keys_command("tenant", "blue", "--model", "blue-?")
    for names, warned in (
        (("acme-iris",), ["acme-iris"]),
        (("acme-*", "acme-?", "flowers", "risk"), ["acme-*", "acme-?", "risk"]),
        (("acme*", "*", "blue-*", "[a]cme-*"), []),  # of these it may see some
        (("blue-?",), ["blue-?"]),
    ):
        given = [word for name in names for word in ("--model", name)]
        code, made, said = keys_command("create", "web", *given, "--json")
        assert (code, [line.split(":")[0] for line in said.splitlines()]) == (0, [f"--model {name}" for name in warned])
        assert "note" not in made
        assert keys_command("create", "web", "--role", "admin", *given, "--json")[2] == ""
    said = keys_command("create", "web", "--tenant", "blue", "--model", "risk")[2]
    assert "claimed by tenant acme, and so this key of tenant blue sees no model" in said
    assert said.rstrip().endswith("--tenant acme.")
    named = keys_command("create", "web", "--tenant", "acme", "--model", "acme-iris", "--json")
    assert named[2] == ""
    assert keys_command("change", named[1]["id"], "--model", "risk")[2] == ""
    assert "--model blue-1: is claimed by tenant blue" in keys_command("change", named[1]["id"], "--model", "blue-1")[2]


def test_a_running_service_follows_a_changed_key(start, keys, ask):
    secret, key = keys.create("web", ["read"])
    service = start()
    assert ask(service, "POST", "/predict/flowers", [[3, 1]], secret).code == 403
    keys.change(key.id, roles=["infer"], models=["flow*"])
    assert eventually(lambda: ask(service, "POST", "/predict/flowers", [[3, 1]], secret).code == 200)
    assert ask(service, "POST", "/predict/acme-risk", [[3, 1]], secret).code == 404


def test_a_tenant_is_forgotten_when_nothing_is_its_own(keys_command):
    keys_command("tenant", "acme", "--model", "acme-*")
    held = keys_command("create", "web", "--tenant", "acme", "--json")[1]["id"]
    for words, step in (
        ("claims acme-*", ("tenant", "acme", "--no-models")),
        (f"has the keys {held}", ("revoke", held)),
        (f"has the keys {held}", ("delete", held)),
    ):
        code, _, said = keys_command("tenant", "acme", "--delete")
        assert (code, words in said) == (1, True)
        assert keys_command(*step)[0] == 0
    assert keys_command("tenant", "acme", "--delete", "--json")[:2] == (0, {"deleted": "acme"})
    assert [tenant["name"] for tenant in keys_command("tenants", "--json")[1]] == ["default"]
    assert keys_command("audit", "--json")[1][-1]["verb"] == "keys.delete_tenant"
    assert "there is no tenant acme" in keys_command("tenant", "acme", "--delete")[2]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["change", "nothere", "--role", "read"], 1, "there is no key nothere"),
        (["change", "nothere"], 2, "is told nothing to change"),
        (["change", "nothere", "--role", "boss"], 2, "no role named"),
        (["change", "nothere", "--model", "a", "--no-models"], 2, "is given beside --model"),
        (["change", "nothere", "--rows", "1/day", "--no-quota"], 2, "is given beside --quota"),
        (["change", "nothere", "--expires", "1d", "--no-expires"], 2, "is given beside --expires"),
        (["change", "nothere", "--expires", "99999999w"], 2, "after the year 9999"),
        (["tenant", "acme", "--delete", "--tier", "basic"], 2, "Give it alone"),
        (["tenant", "default", "--delete"], 1, "is always there"),
        (["create", "a b"], 2, "is not a name"),
        (["create", "web", "--role", "boss"], 2, "no role named"),
        (["create", "web", "--expires", "soon"], 2, "neither a time span nor a date"),
        (["create", "web", "--expires", "1999-01-01"], 2, "in the past"),
        (["create", "web", "--expires", "1970-01-01T00:00"], 2, "in the past"),
        (["create", "web", "--expires", "0d"], 2, "in the past"),
        (["create", "web", "--expires", "999999999w"], 2, "is after the year 9999"),
        (["create", "web", "--expires", "99999999d"], 2, "is after the year 9999"),
        (["create", "web", "--expires", "9999-12-31T23:59-01:00"], 2, "is after the year 9999"),
        (["create", "web", "--quota", "many"], 2, "expected requests in a time"),
        (["create", "web", "--burst", "3"], 2, "is wanted with a rate"),
        (["create", "web", "--rows", "5/s"], 2, "expected rows a day"),
        (["create", "web", "--model", "a/../b"], 2, "is no name of a model"),
        (["create", "web", "--model", "["], 2, "is no name of a model"),
        (["create", "web", "--model", "acme-]*"], 2, "is no name of a model"),
        (["create", "web", "--model", "acme-[]*"], 2, "is no name of a model"),
        (["create", "web", "--model", "!acme"], 2, "is no name of a model"),
        (["create", "web", "--model", "a" * 129], 2, "is no name of a model"),
        (["tenant", "acme", "--model", "[!a"], 2, "is no name of a model"),
        (["audit", "--head", "0" * 64], 2, "--verify --head 000"),
        (["create", "web", "--tenant", "nobody"], 1, "keys tenant nobody"),
        (["tenant", "acme", "--tier", "gold"], 2, "no tier named"),
        (["tenant", "nobody"], 1, "there is no tenant nobody"),
        (["revoke", "nothere"], 1, "there is no key nothere"),
        (["rotate", "nothere", "--grace", "x"], 2, "is not a time span"),
        (["rotate", "nothere", "--grace", "999999999w"], 2, "does not end before the year 10000"),
        ([], 2, ""),
    ],
)
def test_what_cannot_be_done_is_said(keys_command, arguments, code, words):
    found, _, said = keys_command(*arguments)
    assert found == code
    assert words in said
