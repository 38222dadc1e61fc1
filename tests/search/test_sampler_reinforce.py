"""REINFORCE: the policy moves towards what is rewarded, softly for limits, and judges what a branch has."""

from __future__ import annotations

import numpy as np
import pytest
from asking import asked, bowl, hard, mixed, numbers, score, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.samplers.random import Random
from modelmill.search.samplers.reinforce import Reinforce, chances
from modelmill.space import Choose, Dimension


def letters(choose: Choose) -> None:
    choose(Dimension("letter", options=("a", "b", "c", "d")))


def by_letter(misses: dict[str, float]) -> list[str]:
    """The letters picked where all are as good, and some miss limits."""

    def end(number: int, suggestion: Suggestion) -> Past:
        miss = misses.get(suggestion.settings["letter"], 0.0)
        return Past(number, suggestion.settings, "done", (1.0,), misses=miss, memo=suggestion.memo)

    return [one.settings["letter"] for one in asked(Reinforce(), letters, end, 150, seed=1)]


def test_logits_that_are_equal_are_equal_chances() -> None:
    assert chances(np.array([3.0, 3.0])).tolist() == [0.5, 0.5]


def test_what_misses_limits_is_left_the_sooner_the_more_it_misses() -> None:
    picked = by_letter({"a": 5.0, "b": 5.0, "c": 0.05})[75:]
    assert picked.count("a") + picked.count("b") < 15  # by chance it were 37
    assert picked.count("c") + picked.count("d") > 60


def test_a_bonus_on_entropy_keeps_the_policy_open() -> None:
    def end(number: int, suggestion: Suggestion) -> Past:
        return Past(number, suggestion.settings, "done", (float(suggestion.settings["letter"] != "b"),))

    shut, wide = (
        [one.settings["letter"] for one in asked(Reinforce(entropy=bonus), letters, end, 120)].count("b")
        for bonus in (0.0, 0.5)
    )
    assert shut > wide


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    openings = [{"rate": 0.1, "share": 0.5, "steps": 0.0, "width": 9, "batch": 32, "body": "line"}]
    asked(Reinforce(window=8), mixed, hard, 40, workers=3, openings=openings, fresh=True)


def test_settings_become_better_than_by_chance() -> None:
    assert typical(Reinforce(), numbers, bowl, 150) < typical(Random(), numbers, bowl, 150) / 2
    assert typical(Reinforce(), mixed, score, 150) < typical(Random(), mixed, score, 150) * 0.6


def test_several_objectives_and_failures_are_learned_from() -> None:
    sharp, blunt = (asked(Reinforce(limits=limits), mixed, hard, 150, workers=2) for limits in (20, 0))
    kept, missed = ([one.misses == 0 for one in history[75:] if one.scored] for history in (sharp, blunt))
    assert np.mean(kept) > np.mean(missed) + 0.2


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"reinforce\.rate"):
        Reinforce(rate=0)
