"""The test that may be looked at all the time: golden numbers, what it promises, and what counts add up to."""

from __future__ import annotations

import math
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.serve.traffic.counts import Counts, Tally, class_of, quantile, seconds_of, total
from modelmill.serve.traffic.meter import Meter
from modelmill.serve.traffic.pair import Pair
from modelmill.serve.traffic.verdict import BETS, Allowed, Tolerances, allowed, judge, log_e_value

tallies = st.builds(Tally, st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000))


def test_the_e_value_of_three_looks_is_what_pencil_gives():
    # The largest bet on a mean above 1/2 is 2: a look against multiplies by 1 + share, one for neither by 1 - share.
    wanted = sum((1 + share) ** 2 * (1 - share) for share in BETS) / len(BETS)
    assert math.exp(log_e_value(Tally(against=2, neither=1), Allowed(0.5))) == pytest.approx(wanted)


@pytest.mark.parametrize("limit", [*allowed(Tolerances()).values(), Allowed(0.0, -1), Allowed(0.9)])
def test_at_the_tolerance_the_capital_stays_one_on_average(limit):
    # Every course of three looks, with the chances that make their mean just what is allowed.
    if limit.lowest == -1:
        chances = {1: 0.2 + limit.mean, -1: 0.2, 0: 0.6 - limit.mean}
    else:
        chances = {1: limit.mean, 0: 1 - limit.mean}
    mean = 0.0
    for looks in product(chances, repeat=3):
        tally = Tally(looks.count(1), looks.count(-1), looks.count(0))
        mean += math.prod(chances[look] for look in looks) * math.exp(log_e_value(tally, limit))
    assert mean == pytest.approx(1.0)


@given(tallies, tallies)
def test_what_is_added_up_depends_on_neither_order_nor_parts(first, second):
    parts = Counts(errors=first, pairs=3, live_times={"5": 1}), Counts(errors=second, live_times={"5": 2, "7": 1})
    assert parts[0].plus(parts[1]) == parts[1].plus(parts[0]) == total(reversed(parts))
    assert total(parts).errors.looks == first.looks + second.looks
    assert total(parts).live_times == {"5": 3, "7": 1}


@given(tallies)
def test_a_look_against_speaks_against_and_one_for_it_does_not(tally):
    for limit in allowed(Tolerances()).values():
        tally = tally if limit.lowest else Tally(tally.against, 0, tally.neither)
        before = log_e_value(tally, limit)
        assert log_e_value(tally.plus(Tally(against=1)), limit) > before
        assert log_e_value(tally.plus(Tally(neither=1)), limit) < before


def test_equal_versions_are_called_bad_rarely_however_often_one_looks():
    # Right at the tolerance, the worst of what is allowed, with a look at the capital after every single request.
    random, falsely = Random(4), 0
    limit = Allowed(0.05)
    for _ in range(400):
        against, found = 0, False
        for look in range(1, 400):
            against += random.random() < 0.05
            found = found or log_e_value(Tally(against, 0, look - against), limit) >= math.log(20)
        falsely += found
    assert 0 < falsely <= 400 / 20


def test_every_criterion_has_a_part_of_the_level():
    # 100 times the capital is enough for one criterion alone, and not for one of four.
    tally = next(Tally(n) for n in range(100) if log_e_value(Tally(n), Allowed(0.5)) >= math.log(100))
    assert not judge(Counts(slower=tally), Tolerances())["slower"].bad
    more = next(Tally(n) for n in range(100) if log_e_value(Tally(n), Allowed(0.5)) >= math.log(400))
    assert judge(Counts(slower=more), Tolerances())["slower"].bad


@given(st.floats(1e-6, 1000))
def test_a_duration_falls_in_a_class_that_is_hardly_longer(seconds):
    assert seconds * 0.999999 <= seconds_of(class_of(seconds)) <= seconds * 1.0501


def test_the_quantile_of_durations_is_that_of_their_classes():
    times = {class_of(0.001): 90, class_of(0.1): 10}
    assert quantile(times, 0.9) == seconds_of(class_of(0.001))
    assert quantile(times, 0.95) == seconds_of(class_of(0.1))


def pair(live_ms=1.0, candidate_ms=1.0, failed=(False, False), differ=(False,)):
    return Pair(*failed, live_ms / 1000, candidate_ms / 1000, differ)


def test_a_meter_counts_what_pairs_say():
    meter = Meter(Tolerances(), Random(1))
    for one in [pair(), pair(1, 1.2), pair(failed=(False, True)), pair(failed=(True, False)), pair(differ=(True,))]:
        meter.mirrored(one)
    counts = meter.read()
    assert counts.errors == Tally(1, 1, 3)
    assert counts.slower == Tally(1, 0, 2)
    assert counts.differ == Tally(1, 0, 2)
    assert (counts.pairs, counts.rows, counts.rows_differ) == (5, 3, 1)


def test_a_meter_knows_the_tail_only_once_it_knows_the_live_version():
    meter = Meter(Tolerances(), Random(1))
    for number in range(200):
        meter.mirrored(pair(10 if number % 10 == 0 else 1, 50))
    assert meter.read().tail == Tally()
    meter.mirrored(pair(1, 50))
    meter.mirrored(pair(50, 1))
    meter.mirrored(pair(50, 50))
    assert meter.read().tail == Tally(1, 0, 1)


def test_served_failures_are_set_against_the_next_of_the_live_version_and_never_counted_twice():
    meter = Meter(Tolerances(), Random(1))
    meter.served(True, True, mirrored=False)
    assert meter.read().errors.looks == 0
    meter.served(False, True, mirrored=False)  # the live one fails too: that speaks against neither
    meter.served(True, True, mirrored=False)
    meter.served(False, False, mirrored=False)
    meter.served(False, True, mirrored=False)  # nothing of the candidate's waits for it
    meter.served(True, True, mirrored=True)  # the mirror will say it
    counts = meter.read()
    assert counts.errors == Tally(1, 0, 1)
    assert (counts.candidate, counts.candidate_failed, counts.live, counts.live_failed) == (3, 3, 3, 2)


def test_one_row_of_a_request_is_drawn_so_that_many_rows_speak_once():
    meter = Meter(Tolerances(), Random(1))
    for _ in range(400):
        meter.mirrored(pair(differ=(True, False, False, False)))
    counts = meter.read()
    assert counts.differ.looks == 400
    assert 60 < counts.differ.against < 140
    assert (counts.rows, counts.rows_differ) == (1600, 400)
