"""Aging evolution: one change at a time, and parents that die."""

from __future__ import annotations

import pytest
from asking import asked, bowl, hard, mixed, numbers, score, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.samplers.evolution import Evolution
from modelmill.search.samplers.random import Random
from modelmill.space import Space


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    asked(Evolution(population=8, startup=5), mixed, hard, 40, workers=3, fresh=True)


def test_children_differ_from_a_young_parent_in_one_setting() -> None:
    history = asked(Evolution(population=10, sample=4, startup=10), numbers, bowl_trial, 60)
    for one in history[10:]:
        parent = history[one.memo["evolution"]["parent"]]
        assert one.number - parent.number <= 10
        assert sum(one.settings[name] != parent.settings[name] for name in one.settings) == 1


def bowl_trial(number: int, suggestion: Suggestion) -> Past:
    return Past(number, suggestion.settings, "done", (bowl(suggestion.settings),), memo=suggestion.memo)


def test_with_a_sample_of_the_whole_population_the_best_of_the_young_is_the_parent() -> None:
    history = [Past(i, {f"x{k}": float(i % 5) for k in range(4)}, "done", (float(i),)) for i in range(12)]
    found = Evolution(population=6, sample=6, startup=6)(Space(numbers))(history, 0)
    assert found is not None
    assert found.memo == {"evolution": {"parent": 6}}


def test_settings_become_better_than_by_chance() -> None:
    assert typical(Evolution(), numbers, bowl, 120) < typical(Random(), numbers, bowl, 120) / 4
    assert typical(Evolution(), mixed, score, 150) < typical(Random(), mixed, score, 150) / 2


def test_a_space_of_one_candidate_is_answered() -> None:
    assert asked(Evolution(startup=1), lambda choose: None, lambda n, s: Past(n, s.settings, "done", (1.0,)), 3)


def test_a_population_of_one_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"evolution\.population"):
        Evolution(population=1)
