"""The portfolio: members are asked for what they earned for what they cost, and none is forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from asking import asked, best, bowl, hard, mixed, numbers

from modelmill.errors import SpecError, UnknownName
from modelmill.history import Past, Suggestion
from modelmill.search.credit import rewards, shares
from modelmill.search.samplers.portfolio import Portfolio
from modelmill.search.samplers.tpe import Tpe
from modelmill.space import Space


def trial(number: int, loss: float, member: str = "", work: float = 0.0) -> Past:
    return Past(number, {}, "done", (loss,), work=work, memo={"member": member} if member else {})


def test_a_new_best_earns_one_and_what_comes_close_a_little() -> None:
    assert rewards([trial(i, loss) for i, loss in enumerate([5.0, 4.0, 4.1, 6.0, 1.0])]) == [0.0, 1.0, 0.0, 0.0, 1.0]
    assert rewards([trial(0, 5.0), Past(1, {}, "failed"), trial(2, 5.0)]) == [0.0, 0.0, 0.0]
    many = [trial(i, float(i)) for i in range(20)]
    assert rewards([*many, trial(20, 0.5)])[20] == pytest.approx(0.3 / 2)


def test_what_runs_has_earned_nothing_and_costs_nothing_yet() -> None:
    history = [trial(0, 3.0), trial(1, 2.0, "gp"), trial(2, 4.0, "tpe")]
    running = Past(3, {}, "running", memo={"member": "gp"})
    assert rewards([*history, running]) == [0.0, 1.0, 0.0, 0.0]
    before, after = (shares(one, ("gp", "tpe"), 0.3, 1.0) for one in (history, [*history, running]))
    assert after == pytest.approx(before)


def test_a_member_that_improves_is_asked_more_and_the_other_still_its_least_part() -> None:
    history = [trial(i, 10.0 - i if i % 2 else 20.0 + i, "gp" if i % 2 else "tpe") for i in range(12)]
    chances = shares(history, ("gp", "tpe"), 0.3, 0.95)
    assert chances.sum() == pytest.approx(1)
    assert chances[0] > 0.8
    assert 0.15 <= chances[1] < 0.2


def test_of_two_that_earn_alike_the_cheaper_is_asked_more() -> None:
    history = [trial(i, 10.0 - i, "gp" if i % 2 else "tpe", work=9.0 if i % 2 else 1.0) for i in range(12)]
    chances = shares(history, ("gp", "tpe"), 0.2, 1.0)
    assert chances[1] == pytest.approx(0.1 + 0.8 * 0.9, abs=0.05)


def test_a_member_that_was_not_asked_yet_counts_as_the_best() -> None:
    history = [trial(i, 10.0 - i, "gp") for i in range(6)]
    assert shares(history, ("gp", "tpe"), 0.3, 0.95) == pytest.approx([0.5, 0.5])


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    history = asked(Portfolio(startup=6, members=("gp", "tpe", "cmaes")), mixed, hard, 20, workers=3, fresh=True)
    assert {one.memo.get("member") for one in history[6:]} == {"gp", "tpe", "cmaes"}
    assert not any(one.memo for one in history[:6])


def test_it_is_not_far_from_its_best_member() -> None:
    def end(number: int, suggestion: Suggestion) -> Past:
        return Past(number, suggestion.settings, "done", (bowl(suggestion.settings),), memo=suggestion.memo)

    assert best(asked(Portfolio(members=("gp", "random")), numbers, end, 45)) < 1


def test_a_space_is_left_to_the_next_member_when_one_has_nothing_left() -> None:
    pick = Portfolio(members=("grid", "random"), startup=1)(Space(lambda choose: None))
    assert pick([Past(0, {}, "done", (1.0,))], 0) is not None


def test_members_that_do_not_exist_or_are_none_are_refused() -> None:
    with pytest.raises(UnknownName, match="gpp"):
        Portfolio(members=("gpp",))(Space(mixed))
    with pytest.raises(SpecError, match=r"members: none is given"):
        Portfolio(members=())(Space(mixed))
    with pytest.raises(SpecError, match="itself"):
        Portfolio(members=("tpe", "portfolio"))(Space(mixed))


def test_first_trials_are_farther_apart_than_by_chance() -> None:
    space = Space(numbers)
    spread = asked(Portfolio(startup=8), numbers, lambda n, s: Past(n, s.settings, "done", (0.0,)), 8)
    closest = min(space.distance(a.settings, b.settings) for a in spread for b in spread if a.number < b.number)
    draw = np.random.default_rng(0)
    chance = []
    for _ in range(20):
        picked = [space.random(draw) for _ in range(8)]
        chance.append(min(space.distance(a, b) for i, a in enumerate(picked) for b in picked[:i]))
    assert closest > np.median(chance)


def test_what_tpe_drew_for_branches_not_taken_is_forgotten_while_the_trial_runs() -> None:
    asked(Tpe(startup=6), mixed, hard, 30, workers=3, seed=1, fresh=True)
