"""Ants: the weights of the papers, trails on mixed spaces, and a new start when nothing improves."""

from __future__ import annotations

import numpy as np
import pytest
from asking import asked, bowl, hard, mixed, numbers, score, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.samplers.ants import Ants, option_chances, rank_weights
from modelmill.search.samplers.random import Random
from modelmill.space import Dimension


def test_the_weights_of_an_archive_are_those_of_the_paper() -> None:
    weights = rank_weights(10, q=0.1)
    assert weights[1] / weights[0] == pytest.approx(np.exp(-1 / (2 * 0.01 * 100)))
    assert weights.sum() == pytest.approx(1)


def test_an_option_is_likelier_the_better_and_the_fewer_have_it_and_none_is_forgotten() -> None:
    letters = Dimension("letter", options=("a", "b", "c", "d"))
    chances = option_chances(letters, ["a", "b", "b", "b"], np.array([0.4, 0.3, 0.2, 0.1]), q=0.1)
    raw = np.array([0.4 + 0.05, 0.3 / 3 + 0.05, 0.05, 0.05])
    assert chances == pytest.approx(raw / raw.sum())


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    openings = [{"rate": 0.1, "share": 0.5, "steps": 0.0, "width": 9, "batch": 32, "body": "line"}]
    asked(Ants(archive=6, patience=12), mixed, hard, 40, workers=3, openings=openings, fresh=True)


def test_settings_become_better_than_by_chance() -> None:
    assert typical(Ants(), numbers, bowl, 120) < typical(Random(), numbers, bowl, 120) / 8
    assert typical(Ants(), mixed, score, 120) < typical(Random(), mixed, score, 120) / 2


def test_limits_and_failures_are_learned_from() -> None:
    history = asked(Ants(), mixed, hard, 100, workers=2)
    assert np.mean([one.misses == 0 for one in history[50:] if one.scored]) > 0.7  # by chance it were half


def test_the_archive_starts_anew_when_nothing_improves() -> None:
    def flat(number: int, suggestion: Suggestion) -> Past:
        return Past(number, suggestion.settings, "done", (1.0,), memo=suggestion.memo)

    history = asked(Ants(archive=5, patience=10), numbers, flat, 40)
    guided = ["ants" in one.memo for one in history]
    assert guided[:6] == [False] * 5 + [True]
    assert guided[10:16] == [True, False, False, False, False, True]


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"ants\.xi"):
        Ants(xi=0)
