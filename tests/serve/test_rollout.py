"""Rollouts as values: the steps, what leads back, who drives, and which version routers pick."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.contracts import Router
from modelmill.errors import NotServed, OutOfBounds, UsageError
from modelmill.method import decode, names
from modelmill.serve.traffic.counts import Counts, Tally
from modelmill.serve.traffic.lease import Lease, Seen, claim, see
from modelmill.serve.traffic.pair import Run, compare, differences
from modelmill.serve.traffic.rollout import Plan, Rollout, advance, check
from modelmill.serve.traffic.start import plan_of, table_of
from modelmill.serve.traffic.verdict import Tolerances

VERSIONS = {"1": 1, "2": 2, "live": 1, "next": 2}


def begun(**settings):
    return Rollout(1, "digits", 2, 1, Plan(**{"seconds": 0, **settings}))


def test_a_rollout_goes_through_its_steps_to_the_end():
    rollout = begun(pairs=10, requests=5)
    stages = [rollout.stage]
    for _ in range(5):
        step = Counts(pairs=10, candidate=5)
        rollout = advance(rollout, step, step).rollout
        stages.append(rollout.stage)
    assert stages == ["shadow", "1 %", "5 %", "25 %", "100 %", "done"]


@pytest.mark.parametrize(
    ("overall", "reason"),
    [
        (Counts(errors=Tally(20, 0, 80)), "fails"),
        (Counts(slower=Tally(100, 0, 20)), "slower"),
        (Counts(tail=Tally(100, 0, 2)), "slow too often"),
        (Counts(differ=Tally(30, 0, 70)), "differ"),
        (Counts(broken="no such file"), "cannot be loaded: no such file"),
    ],
)
def test_each_criterion_leads_back_from_any_step(overall, reason):
    for step in range(5):
        rollout = msgspec.structs.replace(begun(pairs=0, requests=0), step=step)
        after = advance(rollout, overall, Counts()).rollout
        assert after.state == "rolled_back"
        assert after.share == 0
        assert reason in after.reason


def test_a_step_waits_for_requests_for_time_and_while_bets_stand_high():
    plan = {"pairs": 0, "requests": 3, "steps": (5, 100), "shadow": False}
    assert advance(begun(**plan), Counts(), Counts(candidate=2)).waits == "2 of 3 requests to the candidate"
    assert advance(begun(**plan, seconds=9), Counts(), Counts(candidate=3)).waits == "0 of 9 seconds"
    unseen = begun(**{**plan, "pairs": 2})
    assert advance(unseen, Counts(), Counts(candidate=3, pairs=1)).waits == "1 of 2 mirrored requests"
    doubtful = advance(begun(**plan), Counts(differ=Tally(4, 0, 5)), Counts(candidate=3))
    assert doubtful.waits == "more evidence on differ"
    assert doubtful.rollout.step == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": [1, 500]}, "rollout.steps, item 2 = 500: expected a number of at most 100"),
        ({"steps": [0, 100]}, "rollout.steps, item 1 = 0: expected a number above 0"),
        ({"steps": []}, "rollout.steps = []: expected a list of at least 1 items"),
        ({"steps": "all"}, "rollout.steps = 'all': expected a list"),
        ({"pairs": -1}, "rollout.pairs = -1: expected a whole number of at least 0"),
        ({"requests": 2.5}, "rollout.requests = 2.5: expected a whole number"),
        ({"shadow": "yes"}, "rollout.shadow = 'yes': expected true or false"),
        ({"by": "me"}, "rollout.by = 'me': expected tenant, key, header:NAME or cookie:NAME, or nothing"),
        ({"slower": "much"}, "rollout.slower = 'much': expected a number"),
        ({"notes": "x" * 5000}, "expected text of at most 4000 characters"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_what_came_and_what_was_wanted(settings, words):
    with pytest.raises(OutOfBounds, match=re.escape(words)):
        plan_of(settings)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"method": "canary", "candidate": "2", "percent": 200},
            "canary.percent = 200: expected a number of at most 100",
        ),
        ({"method": "canary", "candidate": 2}, "canary.candidate = 2: expected text"),
        (
            {"method": "blue_green", "blue": "1", "green": "2", "active": "red"},
            "blue_green.active = 'red': expected blue or green",
        ),
        ({"method": "canary"}, "canary needs the setting 'candidate'"),
        ({"percent": 5}, "route.method = None: expected the name of a router"),
        ({"method": 5}, "route.method = 5: expected the name of a router"),
        (["canary"], "route = ['canary']: expected an object with the key method"),
    ],
)
def test_a_route_that_cannot_be_is_refused_with_what_came_and_what_was_wanted(table, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        decode("router", table_of(table), "route")


BY_TENANT = {"pairs": 0, "requests": 20, "shadow": False, "by": "tenant"}


@pytest.mark.parametrize(
    ("settings", "step", "words"),
    [
        ({}, Counts(live=399, named=399), ""),
        (
            {},
            Counts(live=400, named=7),
            ": no caller of 400 requests fell into this step; abort, and begin with a larger one: --steps 25,100",
        ),
        (
            {"steps": (50, 100)},
            Counts(live=400, named=7),
            ": no caller of 400 requests fell into this step; abort, and begin with a larger one: --steps 100",
        ),
        (
            {},
            Counts(live=400),
            ": none of 400 requests says who calls (tenant), and the live version answers those;"
            " abort, and begin without --by, or by what they send",
        ),
        ({"by": ""}, Counts(live=400), ""),
    ],
)
def test_a_step_into_which_no_caller_fell_says_why_it_waits(settings, step, words):
    found = advance(begun(**{**BY_TENANT, **settings}), step, step)
    assert found.waits == "0 of 20 requests to the candidate" + words
    assert found.rollout.state == "running"


def test_a_step_with_a_request_of_a_caller_waits_for_more_in_few_words():
    step = Counts(live=4000, named=4000, candidate=1)
    assert advance(begun(**BY_TENANT), step, step).waits == "1 of 20 requests to the candidate"


@given(st.integers(0, 3), st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_a_rollout_moves_by_one_step_at_most_and_never_backwards_but_out(step, against, neither, requests):
    rollout = msgspec.structs.replace(begun(pairs=50, requests=50), step=step)
    counts = Counts(differ=Tally(against, 0, neither), pairs=requests, candidate=requests)
    after = advance(rollout, counts, counts).rollout
    assert after.state in ("running", "rolled_back")
    assert after.step - step in (0, 1)
    assert advance(rollout, counts, counts).rollout == after


@pytest.mark.parametrize("steps", [(5, 1, 100), (1, 5), (50, 50, 100)])
def test_steps_that_do_not_rise_to_the_whole_are_refused(steps):
    with pytest.raises(OutOfBounds, match="steps rise"):
        check(Plan(steps=steps))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("level", 0, "level = 0: expected a number above 0 and below 1"),
        ("level", 1, "level = 1: expected a number above 0 and below 1"),
        ("differ", 0, "differ = 0: expected a number above 0 and at most 1"),
        ("errors", 1.01, "errors = 1.01: expected a number above 0 and at most 1"),
        ("tail", 0.5, "tail = 0.5: expected a number from 1 to 1000"),
        ("near", float("nan"), "near = nan: expected a number from 0 to 1000"),
    ],
)
def test_a_tolerance_that_cannot_be_judged_by_is_refused(name, value, words):
    with pytest.raises(OutOfBounds, match=re.escape(words)):
        check(Plan(tolerances=Tolerances(**{name: value})))


@pytest.mark.parametrize(("name", "tally"), [("errors", Tally(1000, 10, 10)), ("differ", Tally(1000, 0, 10))])
def test_a_tolerance_of_one_switches_a_criterion_off_and_counts_on(name, tally):
    counts = Counts(**{name: tally}, pairs=10**6, candidate=10**6)
    judged = begun()
    assert advance(judged, counts, counts).rollout.state == "rolled_back"
    off = begun(tolerances=Tolerances(**{name: 1}))
    check(off.plan)
    found = advance(off, counts, counts)
    assert (found.rollout.stage, found.waits) == ("1 %", "")
    assert found.findings[name].against == 1000


def test_the_lease_has_one_holder_and_falls_to_another_after_silence():
    lease = claim(Seen(Lease("", 0, 0), 0.0), "a", 0.0, 5)
    assert lease == Lease("a", 1, 0)
    seen_by_b = see(None, lease, 10.0)
    assert claim(seen_by_b, "b", 14.9, 5) is None
    beaten = claim(Seen(lease, 12.0), "a", 13.0, 5)
    seen_by_b = see(seen_by_b, beaten, 13.5)
    assert claim(seen_by_b, "b", 18.4, 5) is None
    assert claim(seen_by_b, "b", 18.5, 5) == Lease("b", 2, 0)


def test_one_who_was_frozen_does_not_get_the_lease_back_by_waking():
    taken = Lease("b", 2, 0)
    assert claim(see(Seen(Lease("a", 1, 9), 0.0), taken, 1000.0), "a", 1000.0, 5) is None


ROUTERS = {
    "canary": {"candidate": "2", "percent": 30},
    "sticky": {"candidate": "next", "percent": 30, "by": "tenant"},
    "header": {},
    "blue_green": {"blue": "1", "green": "2", "active": "green"},
    "shadow": {"candidate": "2"},
}


def router(name) -> Router:
    return decode("router", {"method": name, **ROUTERS[name]})


def test_every_router_is_tested():
    assert set(names("router")) == set(ROUTERS)


@pytest.mark.parametrize("name", ROUTERS)
def test_a_router_is_a_function_that_picks_a_version_that_is_there(name):
    for caller in ["", *"0123456789", "live"]:
        try:
            picked = router(name)(caller, VERSIONS)
        except NotServed:
            assert name == "header"
            continue
        assert picked in (1, 2)
        assert router(name)(caller, dict(VERSIONS)) == picked


@pytest.mark.parametrize("name", ROUTERS)
def test_a_router_whose_candidate_is_gone_picks_the_live_version(name):
    assert {router(name)(caller, {"1": 1, "live": 1}) for caller in ["", "1"]} == {1}


@pytest.mark.parametrize("name", ["canary", "sticky"])
def test_the_share_is_kept_and_whoever_was_moved_stays_moved(name):
    callers = [f"caller {n}" for n in range(10_000)]
    few = router(name)
    many = few.replace(percent=60)
    moved = {caller for caller in callers if few(caller, VERSIONS) == 2}
    assert 2800 < len(moved) < 3200
    assert moved <= {caller for caller in callers if many(caller, VERSIONS) == 2}


def test_a_caller_without_a_name_is_not_moved():
    assert router("sticky").replace(percent=100)("", VERSIONS) == 1


def test_a_header_names_a_number_or_an_alias_or_is_refused():
    assert [router("header")(label, VERSIONS) for label in ("1", "2", "next", "")] == [1, 2, 2, 1]
    with pytest.raises(NotServed, match="no version is '9'"):
        router("header")("9", VERSIONS)


def test_only_the_shadow_asks_another_version_unseen():
    assert {name: router(name).mirror("x", VERSIONS) for name in ROUTERS} == {**dict.fromkeys(ROUTERS), "shadow": 2}


def test_answers_differ_by_their_labels_and_numbers_where_there_are_only_numbers():
    labels = {"label": np.array(["a", "b"], object), "probabilities": np.array([[0.9, 0.1], [0.4, 0.6]])}
    nearly = {"label": np.array(["a", "c"], object), "probabilities": np.array([[0.8, 0.2], [0.4, 0.6]])}
    assert differences(labels, nearly, 2, 0.01).tolist() == [False, True]
    numbers = {"value": np.array([[1.0, 5.0], [100.0, 5.0]])}
    assert differences(numbers, {"value": np.array([[1.02, 5.0], [100.5, 5.0]])}, 2, 0.01).tolist() == [True, False]
    assert differences(numbers, {"value": np.array([1.0, 100.0])}, 2, 0.01).tolist() == [True, True]
    assert differences(numbers, {}, 2, 0.01).tolist() == [True, True]


def test_a_run_that_fails_or_gives_no_numbers_is_a_failure():
    good = Run({"value": np.array([1.0])}, 0.1)
    for bad in (Run(None, 0.1), Run({"value": np.array([np.nan])}, 0.1), Run({"value": np.array([np.inf])}, 0.1)):
        assert compare(good, bad, 1, 0.01)[:2] == (False, True)
        assert compare(bad, good, 1, 0.01)[:2] == (True, False)
        assert compare(bad, bad, 1, 0.01).differ == ()
    assert compare(good, good, 1, 0.01).differ == (False,)
