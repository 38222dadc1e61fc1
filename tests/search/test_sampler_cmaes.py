"""CMA-ES: learns shapes, keeps steps and categories open, restarts, and depends on nothing but history and seed."""

from __future__ import annotations

import numpy as np
import pytest
from asking import asked, best, bowl, hard, mixed, numbers, score, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.population.cloud import cloud, learn, rates, sample, with_margin
from modelmill.search.samplers.cmaes import Cmaes
from modelmill.search.samplers.random import Random
from modelmill.space import Choose, Dimension


def test_a_generation_of_eight_in_five_dimensions_has_the_rates_of_the_tutorial() -> None:
    rate = rates(5, 8)
    assert rate.weights[:4] == pytest.approx([0.5303, 0.2857, 0.1429, 0.0411], abs=1e-3)
    assert rate.mass == pytest.approx(2.6, abs=0.05)
    assert rate.weights[4:].max() <= 0


def test_a_cloud_becomes_long_where_good_points_lie_along_a_line() -> None:
    draw, found = np.random.default_rng(0), cloud(np.full(2, 0.5), 0.1)
    for _ in range(40):
        points = np.array([sample(found, draw) for _ in range(8)])
        order = np.argsort(np.abs(points[:, 0] - points[:, 1]) + 0.01 * np.abs(points[:, 0] - 0.5))
        found = learn(found, points[order], np.zeros(8, bool))
    assert abs(found.axes[:, 1] @ [1, 1]) / np.sqrt(2) > 0.95
    assert found.lengths[1] > 2 * found.lengths[0]


def test_a_value_with_steps_keeps_the_chance_to_be_left() -> None:
    found = with_margin(cloud(np.array([0.5, 0.1]), 1e-6), np.array([[0.4, 0.6], [-np.inf, 0.2]]), margin=0.1)
    draw = np.random.default_rng(0)
    points = np.array([sample(found, draw) for _ in range(4000)])
    assert 0.06 < np.mean((points[:, 0] < 0.4) | (points[:, 0] > 0.6)) < 0.14
    assert 0.06 < np.mean(points[:, 1] > 0.2) < 0.14


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    openings = [{"rate": 0.1, "share": 0.5, "steps": 0.0, "width": 9, "batch": 32, "body": "line"}]
    asked(Cmaes(population=5), mixed, hard, 45, workers=3, openings=openings, fresh=True)


def test_several_objectives_limits_and_failures_are_learned_from() -> None:
    history = asked(Cmaes(), mixed, hard, 90, workers=2)
    late = [one.misses == 0 for one in history[45:] if one.scored]
    assert np.mean(late) > 0.65  # by chance half keep the limit


def test_a_bowl_is_descended_far_below_what_chance_finds() -> None:
    assert typical(Cmaes(), numbers, bowl, 200) < typical(Random(), numbers, bowl, 200) / 20


def test_mixed_settings_become_better_than_by_chance() -> None:
    assert typical(Cmaes(), mixed, score, 150) < typical(Random(), mixed, score, 150) / 2


def test_a_run_that_became_narrow_is_followed_by_others() -> None:
    def line(choose: Choose) -> None:
        choose(Dimension("x", low=0.0, high=1.0))

    def end(number: int, suggestion: Suggestion) -> Past:
        return Past(number, suggestion.settings, "done", (suggestion.settings["x"] ** 2,), memo=suggestion.memo)

    history = asked(Cmaes(precision=0.01), line, end, 300, workers=2, fresh=False)
    runs = [one.memo["cmaes"]["run"] for one in history]
    assert max(runs) >= 2
    assert len({one.memo["cmaes"]["start"]["population"] for one in history}) > 1
    assert best(history) < 1e-4


def test_what_others_suggested_is_learned_from() -> None:
    far = [{f"x{i}": 4.0 + 0.01 * k for i in range(4)} for k in range(30)]

    def end(number: int, suggestion: Suggestion) -> Past:
        loss = sum(abs(x - 4) for x in suggestion.settings.values())
        return Past(number, suggestion.settings, "done", (loss,), memo=suggestion.memo)

    alone, helped = (asked(Cmaes(), numbers, end, n, openings=o) for n, o in ((16, []), (46, far)))
    assert np.mean([one.losses for one in helped[-16:]]) < np.mean([one.losses for one in alone[-16:]])


def test_a_space_of_categories_alone_is_learned_too() -> None:
    def labels(choose: Choose) -> None:
        for i in range(4):
            choose(Dimension(f"c{i}", options=("a", "b", "c", "d")))

    def loss(settings: dict[str, str]) -> float:
        return float(sum(value != "c" for value in settings.values()))

    assert typical(Cmaes(), labels, loss, 100) <= typical(Random(), labels, loss, 100)


def test_a_width_of_zero_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"cmaes\.width"):
        Cmaes(width=0)
