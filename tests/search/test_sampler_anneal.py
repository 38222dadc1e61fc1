"""Simulated annealing: the rule of acceptance, the step that adapts, and what is told of the chains."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from asking import asked, best, bowl, hard, mixed, numbers, one_loss, score, typical
from msgspec.structs import replace

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.chain import accepted, statistics
from modelmill.search.samplers.anneal import Anneal, _chance, _moved, _proposal
from modelmill.search.samplers.random import Random
from modelmill.space import Choose, Dimension, Space


def end(number: int, suggestion: Suggestion) -> Past:
    return Past(number, suggestion.settings, "done", (bowl(suggestion.settings),), memo=suggestion.memo)


def link(number: int, loss: float, parent: int | None, **more: float) -> Past:
    memo = {"chain": 0, "parent": parent, "at": number, "step": 0.2, "temperature": 1.0, "u": 0.5, **more}
    return Past(number, {"head": "ab"[number % 2], "x": loss}, "done", (loss,), memo={"anneal": memo})


def test_equal_or_better_is_always_accepted_and_worse_by_its_chance() -> None:
    assert accepted(link(1, 1.0, 0, u=1.0, temperature=0.0), {0: 1.0, 1: 1.0})
    assert accepted(link(1, 0.5, 0, u=1.0), {0: 1.0, 1: 0.5})
    just = 1.0 + math.log(2)  # exp(-ln 2 / 1) is one half
    assert accepted(link(1, just, 0, u=0.49), {0: 1.0, 1: just})
    assert not accepted(link(1, just, 0, u=0.51), {0: 1.0, 1: just})
    assert not accepted(link(1, just, 0, u=0.01, temperature=0.0), {0: 1.0, 1: just})
    assert not accepted(Past(1, {}, "failed", memo=link(1, 0, 0).memo), {0: 1.0, 1: 0.9})


def test_a_chain_of_six_trials_is_told_by_its_states() -> None:
    chain = [
        link(0, 4.0, None),
        link(1, 3.0, 0),
        link(2, 9.0, 1, u=0.9),
        link(3, 2.0, 1),
        link(4, 5.0, 3),
        link(5, 1.0, 4),
    ]
    found = statistics(chain)
    assert (found.chains, found.draws) == (1, 6)
    assert found.acceptance == pytest.approx(4 / 5)  # the third trial was left, the fifth taken though it was worse
    assert found.transitions["head"] == {"a": {"b": 2}, "b": {"a": 1, "b": 2}}
    assert found.frequencies["head"] == {"a": 2 / 6, "b": 4 / 6}
    assert found.loss is not None
    assert found.loss.mean == pytest.approx((4 + 3 + 3 + 2 + 5 + 1) / 6)
    assert found.numbers["x"].quartiles[1] == pytest.approx(3.0)
    assert any("80% of proposals were accepted" in words for words in found.words)


@pytest.mark.parametrize("step", [0.05, 0.2, 0.5])
def test_a_step_is_as_likely_as_the_way_back_also_at_the_ends(step: float) -> None:
    draw = np.random.default_rng(0)
    size = Dimension("n", low=1, high=5, integer=True)
    counts = np.array(
        [np.bincount([_moved(size, n, step, draw) for _ in range(20_000)], minlength=6) for n in range(6)][1:]
    )
    there, back = counts[:, 1:], counts[:, 1:].T
    assert np.abs(there - back).max() < 5 * np.sqrt(there.max())


def test_a_branch_with_many_settings_is_left_as_often_as_one_without() -> None:
    def walk(choose: Choose) -> None:
        if choose(Dimension("arch", options=("lin", "net"))) == "net":
            for i in range(6):
                choose(Dimension(f"p{i}", low=0.0, high=1.0))

    space, draw = Space(walk), np.random.default_rng(0)
    here, seen, chance = space.random(draw), Counter[str](), _chance(space)
    for _ in range(20_000):
        here, _ = _proposal(space, here, chance, 0.2, draw)
        seen[here["arch"]] += 1
    assert seen["net"] / seen.total() == pytest.approx(0.5, abs=0.03)


def test_chains_have_settled_only_where_every_setting_has_and_draws_are_many() -> None:
    draw = np.random.default_rng(0)
    calm = [link(i, float(loss), i - 1 if i else None) for i, loss in enumerate(draw.normal(size=400))]
    assert "have settled" in statistics(calm).words[-1]
    assert "have not settled" in statistics(calm[:40]).words[-1]
    wandering = [replace(one, settings={**one.settings, "width": i}) for i, one in enumerate(calm)]
    assert "have not settled: R-hat of width" in statistics(wandering).words[-1]


def test_nothing_is_told_of_a_chain_that_has_not_begun() -> None:
    assert statistics([Past(0, {}, "done", (1.0,))]).words == ("no chain has begun",)


def test_at_one_temperature_the_chain_visits_what_the_law_says() -> None:
    """Three states of losses 0, 1 and 2: at temperature 1 they are visited as 1 : e^-1 : e^-2."""

    def walk(choose: Choose) -> None:
        choose(Dimension("kind", options=("a", "b", "c")))

    losses = {"a": 0.0, "b": 1.0, "c": 2.0}
    history = asked(
        Anneal(heat=1.0, cooling=1.0),
        walk,
        lambda n, s: Past(n, s.settings, "done", (losses[s.settings["kind"]],), memo=s.memo),
        600,
        openings=[{"kind": "b"}],
    )
    heat = np.mean([one.memo["anneal"]["temperature"] for one in history[3:]])
    wanted = np.exp(-np.array([0, 1, 2]) / heat)
    assert list(statistics(history).frequencies["kind"].values()) == pytest.approx(wanted / wanted.sum(), abs=0.06)


def test_the_step_adapts_until_the_wanted_part_is_accepted() -> None:
    history = asked(Anneal(heat=0.1, cooling=1.0, acceptance=0.3, step=0.5), numbers, end, 400)
    assert 0.2 < np.mean([one.memo["anneal"]["went"] for one in history[200:]]) < 0.4


def test_every_worker_has_a_chain_and_the_first_starts_at_the_best_known() -> None:
    openings = [{f"x{i}": float(x) for i in range(4)} for x in (4, 1)]
    history = asked(Anneal(), numbers, end, 30, workers=3, openings=openings)
    assert {one.memo["anneal"]["chain"] for one in history[2:]} == {0, 1, 2}
    assert history[2].memo["anneal"]["parent"] == 1
    assert statistics(history).chains == 3
    for number in range(3):
        chain = [one.memo["anneal"] for one in history[2:] if one.memo["anneal"]["chain"] == number]
        assert [memo["at"] for memo in chain] == list(range(chain[0]["at"], chain[0]["at"] + len(chain)))


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    history = asked(Anneal(), mixed, hard, 40, workers=3, fresh=True)
    assert statistics(history).draws > 30


def test_better_is_found_than_by_chance() -> None:
    assert best(asked(Anneal(), numbers, end, 150)) < typical(Random(), numbers, bowl, 150) / 3
    assert best(asked(Anneal(), mixed, one_loss, 150)) < typical(Random(), mixed, score, 150)


def test_a_wanted_acceptance_of_one_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"anneal\.acceptance"):
        Anneal(acceptance=1.0)


def test_a_chain_walks_on_through_what_was_tried_and_so_meets_all_of_a_small_space() -> None:
    def walk(choose: Choose) -> None:
        choose(Dimension("kind", options=("a", "b", "c", "d")))
        choose(Dimension("size", options=(1, 2, 3)))

    space = Space(walk)
    pick = Anneal()(space)
    history: list[Past] = []
    for number in range(12):
        found = pick(history, number)
        assert found is not None
        loss = float("abcd".index(found.settings["kind"]) + found.settings["size"])
        history.append(Past(number, found.settings, "done", (loss,), memo=found.memo))
    assert len({space.key(one.settings) for one in history}) == 12
    told = statistics(history)
    assert told.draws > len(history)


def test_where_proposals_of_categories_fail_the_step_of_numbers_stays() -> None:
    memo = {"parent": 0, "step": 0.2, "at": 5, "numbers": False}
    assert Anneal()._adapted(memo, went=False) == 0.2
    assert Anneal()._adapted({**memo, "numbers": True}, went=False) < 0.2
