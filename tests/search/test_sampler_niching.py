"""Niching: several optima stay alive; the core finds the peaks of known functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from asking import asked, hard, mixed, score, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.population.niches import Ground, Keep, Niches, distances, optimize, worth
from modelmill.search.samplers.niching import Niching
from modelmill.search.samplers.random import Random
from modelmill.space import Choose, Dimension

Array = np.ndarray[Any, Any]


def himmelblau(points: Array) -> Array:
    x, y = (12 * points - 6).T
    return np.asarray((x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2)


MINIMA = (np.array([[3, 2], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]]) + 6) / 12


def found(points: Array, within: float) -> int:
    return sum(bool((np.abs(points - minimum).max(axis=1) < within).any()) for minimum in MINIMA)


def test_all_four_minima_of_himmelblaus_function_are_found_exactly() -> None:
    niches = optimize(himmelblau, 2, evaluations=5000, population=40, seed=0)
    assert found(niches.points[niches.verdicts[:, 1] < 1e-3], within=1e-3) == 4


def test_a_line_of_waves_keeps_every_crest() -> None:
    niches = optimize(lambda points: -(np.sin(5 * np.pi * points[:, 0]) ** 6), 1, 4000, population=40, seed=1)
    crests = niches.points[niches.verdicts[:, 1] < -1 + 1e-6, 0]
    assert {round(crest * 10) for crest in crests.tolist()} == {1, 3, 5, 7, 9}


@pytest.mark.parametrize("keep", ["crowding", "sharing", "clearing"])
def test_the_sampler_keeps_more_than_one_minimum_alive(keep: Keep) -> None:
    def plane(choose: Choose) -> None:
        choose(Dimension("x", low=0.0, high=1.0))
        choose(Dimension("y", low=0.0, high=1.0))

    def end(number: int, suggestion: Suggestion) -> Past:
        point = np.array([list(suggestion.settings.values())])
        return Past(number, suggestion.settings, "done", (himmelblau(point)[0],), memo=suggestion.memo)

    history = asked(Niching(keep=keep), plane, end, 300, workers=3)
    good = [list(one.settings.values()) for one in history if one.losses[0] < 4]
    assert found(np.array(good), within=0.07) >= 3


@pytest.mark.parametrize("keep", ["crowding", "sharing", "clearing"])
def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does(keep: Keep) -> None:
    openings = [{"rate": 0.1, "share": 0.5, "steps": 0.0, "width": 9, "batch": 32, "body": "line"}]
    asked(Niching(keep=keep, population=8), mixed, hard, 30, workers=3, openings=openings, fresh=True)


def test_mixed_settings_become_better_than_by_chance() -> None:
    assert typical(Niching(population=12), mixed, score, 150) < typical(Random(), mixed, score, 150) * 0.8


def test_limits_and_failures_are_learned_from() -> None:
    history = asked(Niching(), mixed, hard, 120, workers=2)
    assert np.mean([one.misses == 0 for one in history[60:] if one.scored]) > 0.6  # by chance it were half


def test_a_coordinate_that_only_one_has_is_as_far_as_can_be() -> None:
    one = np.array([[0.2, 0.25, np.nan]])
    two = np.array([[0.4, 0.75, 0.5], [0.2, 0.25, np.nan]])
    category = np.array([False, True, False])
    assert distances(one, two, category) == pytest.approx(np.array([[(0.2 + 1 + 1) / 3, 0.0]]))


def test_what_is_shared_counts_for_less_and_what_is_cleared_for_nothing() -> None:
    points = np.array([[0.1], [0.12], [0.9]])
    verdicts = np.array([[0.0, 1], [0, 2], [0, 3]])
    state = Niches(points, verdicts, np.ones(3), np.arange(3), np.zeros(3, bool))
    ground = Ground(np.zeros(1, bool), np.zeros(1), 3, "sharing", radius=0.1)
    assert worth(state, ground) == pytest.approx([4 / 1.8, 2.5 / 1.8, 1])
    cleared = Ground(np.zeros(1, bool), np.zeros(1), 3, "clearing", radius=0.1)
    assert np.argsort(-worth(state, cleared)).tolist() == [0, 2, 1]


def test_a_population_of_two_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"niching\.population"):
        Niching(population=2)
