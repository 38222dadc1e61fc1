"""The genetic sampler, and the recombination and mutation of mixed settings."""

from __future__ import annotations

import numpy as np
import pytest
from asking import asked, bowl, hard, mixed, numbers, score, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past
from modelmill.search.population.mixed import blend, child, move, mutant
from modelmill.search.population.survivors import survivors
from modelmill.search.samplers.genetic import Genetic
from modelmill.search.samplers.random import Random
from modelmill.space import Dimension, Space

SPACE = Space(mixed)
PAIRS = ((0.4, 0.6), (0.6, 0.4))


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    openings = [{"rate": 0.1, "share": 0.5, "steps": 0.0, "width": 9, "batch": 32, "body": "line"}]
    asked(Genetic(population=6), mixed, hard, 40, workers=3, openings=openings, fresh=True)


def test_a_bowl_is_descended_below_what_chance_finds() -> None:
    assert typical(Genetic(), numbers, bowl, 120) < typical(Random(), numbers, bowl, 120) / 4


def test_mixed_settings_become_better_than_by_chance() -> None:
    assert typical(Genetic(), mixed, score, 120) < typical(Random(), mixed, score, 120) / 2


def test_limits_and_failures_are_learned_from() -> None:
    history = asked(Genetic(), mixed, hard, 100, workers=2)
    assert np.mean([one.misses == 0 for one in history[50:] if one.scored]) > 0.7  # by chance it were half


def test_children_have_a_parents_value_wherever_it_is_no_number() -> None:
    draw = np.random.default_rng(0)
    for _ in range(40):
        one, two = SPACE.random(draw), SPACE.random(draw)
        both = child(SPACE, one, two, draw, eta=10)
        assert both["body"] in (one["body"], two["body"])
        assert [d.name for d in SPACE.met(both)] == list(both)


def test_blending_leaves_the_middle_of_two_parents_where_it_is() -> None:
    near, far = (
        np.mean([blend(*pair, np.random.default_rng(i), 5) for i in range(4000)]) for pair in ((0.4, 0.6),) * 2
    )
    assert near == far == pytest.approx(0.4, abs=0.01)  # it is as often below its parent as above


def test_a_mutant_without_a_rate_differs_in_one_setting_or_in_what_its_branch_brings() -> None:
    draw, changed = np.random.default_rng(1), set[str]()
    for _ in range(60):
        one = SPACE.random(draw)
        other = mutant(SPACE, one, draw, rate=0.0, eta=10)
        differ = {name for name in other if other[name] != one.get(name)}
        assert len(differ - {"depth", "turn"}) <= 1
        assert other != one
        changed |= differ
    assert changed == {"rate", "share", "steps", "width", "batch", "body", "depth", "turn"}


def test_moves_are_small_and_stay_inside() -> None:
    draw, rate = np.random.default_rng(2), Dimension("rate", low=1e-4, high=1.0, log=True)
    units = np.array([rate.unit(move(rate, 1e-4, draw, eta=20)) for _ in range(300)])
    assert units.min() > 0
    assert units.max() <= 1
    assert np.median(units) < 0.1


def test_equal_settings_have_one_place_in_a_population() -> None:
    members = survivors((), Past(0, {"x": 1}, "done", (2.0,)), 2)
    members = survivors(members, Past(1, {"x": 1}, "done", (2.0,)), 2)
    members = survivors(members, Past(2, {"x": 2}, "done", (1.0,)), 2)
    assert [one.number for one in survivors(members, Past(3, {"x": 3}, "failed"), 2)] == [2, 0]


def test_a_population_of_one_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"genetic\.population"):
        Genetic(population=1)
