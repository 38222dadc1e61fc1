"""NSGA-II: a wider and better front than by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from asking import asked, hard, mixed, score, typical

from modelmill.contracts import Sampler
from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.pareto import hypervolume
from modelmill.search.samplers.nsga2 import Nsga2
from modelmill.search.samplers.random import Random
from modelmill.space import Choose, Dimension


def six(choose: Choose) -> None:
    for i in range(6):
        choose(Dimension(f"x{i}", low=0.0, high=1.0))


def zdt1(number: int, suggestion: Suggestion) -> Past:
    """Zitzler, Deb, Thiele (2000): the front is f2 = 1 - sqrt(f1), where all but the first are 0."""
    x = list(suggestion.settings.values())
    g = 1 + 9 * sum(x[1:]) / 5
    return Past(number, suggestion.settings, "done", (x[0], g * (1 - np.sqrt(x[0] / g))), memo=suggestion.memo)


def volume(history: Sequence[Past]) -> float:
    return hypervolume([one.losses for one in history if one.misses == 0], (1.1, 6.0))


def test_the_front_of_two_objectives_is_nearer_than_by_chance() -> None:
    def middle(sampler: Sampler) -> float:
        return float(np.median([volume(asked(sampler, six, zdt1, 200, seed=seed)) for seed in range(3)]))

    assert middle(Nsga2()) > 5.4  # 6.27 is the front's own
    assert middle(Random()) < 5.0


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    openings = [{"rate": 0.1, "share": 0.5, "steps": 0.0, "width": 9, "batch": 32, "body": "line"}]
    asked(Nsga2(population=6), mixed, hard, 40, workers=3, openings=openings, fresh=True)


def test_limits_and_failures_are_learned_from() -> None:
    history = asked(Nsga2(), mixed, hard, 110, workers=2)
    assert np.mean([one.misses == 0 for one in history[60:] if one.scored]) > 0.65  # by chance it were half


def test_one_objective_is_no_special_case() -> None:
    assert typical(Nsga2(), mixed, score, 120) < typical(Random(), mixed, score, 120) * 0.7


def test_a_population_of_two_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"nsga2\.population"):
        Nsga2(population=2)
