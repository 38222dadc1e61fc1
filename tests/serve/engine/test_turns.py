"""Turns on the loop: alone one has everything; among several, whoever had more than its share waits."""

from __future__ import annotations

import asyncio

import pytest

from modelmill.serve.engine.terms import Terms
from modelmill.serve.engine.turns import SEEN_S, Turns

BASIC, ADVANCED = Terms(payer="basic", share=1.0), Terms(payer="advanced", share=16.0)
COST_S = 0.0001


class Hand:
    """A clock that is moved."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def hand():
    return Hand()


@pytest.fixture
def turns(hand):
    return Turns(hand)


def ask(turns, hand, terms):
    """Whether a request is answered at once; it is then."""
    if turns.must_wait(terms):
        return False
    hand.now += COST_S
    turns.spent(terms, COST_S)
    return True


def test_who_is_alone_never_waits(turns, hand):
    assert all(ask(turns, hand, BASIC) for _ in range(10_000))


def test_who_floods_waits_and_who_asks_little_does_not(turns, hand):
    answered = {"basic": 0, "advanced": 0}
    for _ in range(2000):
        for terms in (*[BASIC] * 8, ADVANCED):
            answered[terms.payer] += ask(turns, hand, terms)
    assert answered["advanced"] == 2000
    assert answered["basic"] == pytest.approx(2000 / 16, abs=20)


def test_who_asks_seldom_takes_part_all_the_time(turns, hand):
    """Each of its requests comes after what was known of it was looked through."""
    put_off = 0
    for _ in range(100):
        assert ask(turns, hand, ADVANCED)
        hand.now += 0.005
        put_off += sum(ask(turns, hand, BASIC) for _ in range(60)) < 60
        hand.now += 0.005
    assert put_off >= 99  # before the second request of the first one there is nobody beside


def test_who_was_away_saves_nothing_up_and_owes_nothing(turns, hand):
    for _ in range(1000):
        ask(turns, hand, BASIC)
        ask(turns, hand, ADVANCED)
    assert turns.must_wait(BASIC)
    hand.now += 2 * SEEN_S
    assert not turns.must_wait(BASIC)
    ask(turns, hand, ADVANCED)
    assert ask(turns, hand, BASIC)
    late = Terms(payer="late", share=1.0)
    answered = {"basic": 0, "late": 0}
    for _ in range(1000):
        for terms in (*[late] * 4, BASIC, ADVANCED):
            if ask(turns, hand, terms) and terms is not ADVANCED:
                answered[terms.payer] += 1
    assert answered["late"] == pytest.approx(answered["basic"], abs=15)


def test_those_who_wait_are_answered_by_weight_and_in_their_order(turns, hand):
    order = []

    async def flood():
        ask(turns, hand, BASIC)
        ask(turns, hand, ADVANCED)
        for number in range(2000):
            for terms in (BASIC, ADVANCED):

                def work(terms=terms, number=number):
                    hand.now += COST_S
                    turns.spent(terms, COST_S)
                    order.append((terms.payer, number))

                turns.put(terms, work)
        while len(order) < 1700:
            await asyncio.sleep(0)

    asyncio.run(flood())
    some = order[:1700]
    counts = [sum(payer == name for payer, _ in some) for name in ("basic", "advanced")]
    assert counts == pytest.approx([100, 1600], abs=20)
    for name, count in zip(("basic", "advanced"), counts, strict=True):
        assert [number for payer, number in some if payer == name] == list(range(count))


def test_a_task_takes_its_turn_and_one_that_left_holds_nobody_up(turns, hand):
    async def main():
        while ask(turns, hand, BASIC):
            ask(turns, hand, ADVANCED)
        left, stayed = (asyncio.ensure_future(turns.take(BASIC)) for _ in range(2))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait_for(stayed, 10)
        assert not turns.lines
        hand.now += 2 * SEEN_S
        await asyncio.wait_for(turns.take(BASIC), 10)

    asyncio.run(main())
