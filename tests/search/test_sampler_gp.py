"""The Gaussian process: its numbers, and that picks follow from history and seed on every kind of space."""

from __future__ import annotations

import math

import numpy as np
import pytest
from asking import asked, best, bowl, hard, mixed, numbers, one_loss, score, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.samplers.gp import Gp
from modelmill.search.samplers.random import Random
from modelmill.search.surrogate.acquire import Improvement, log_improvement
from modelmill.search.surrogate.encode import Encoding
from modelmill.search.surrogate.gaussian import Shape, condition, fit, squares, unlikeliness
from modelmill.search.surrogate.promising import Shapes, logged, plain
from modelmill.search.surrogate.threads import one_thread
from modelmill.space import Space


def points(count: int = 20, width: int = 3) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    features = draw.random((count, width))
    values = np.sin(6 * features[:, 0]) + features[:, 1] ** 2
    return features, (values - values.mean()) / values.std()


def test_a_point_that_was_seen_is_known_and_a_far_one_is_not() -> None:
    shape = Shape(np.array([0.1]), scale=2.0, noise=1e-6)
    model = condition(shape, np.array([[0.0]]), np.array([0]), np.array([1.5]))
    mean, deviation = model.at(np.array([[0.0], [10.0]]))
    assert mean == pytest.approx([1.5, 0.0], abs=1e-4)
    assert deviation == pytest.approx([0.0, math.sqrt(2)], abs=2e-3)


def test_the_slope_of_the_likelihood_is_that_of_small_differences() -> None:
    features, values = points()
    apart = np.stack([squares(features[:, [i]], features[:, [i]]).ravel() for i in range(3)])
    at, step = np.array([-0.5, 0.2, 1.0, 0.3, -4.0]), 1e-6
    _, slope = unlikeliness(at, apart, values)
    for i, unit in enumerate(np.eye(5)):
        up, down = (unlikeliness(at + sign * step * unit, apart, values)[0] for sign in (1, -1))
        assert slope[i] == pytest.approx((up - down) / (2 * step), abs=1e-4)


def test_a_dimension_that_does_nothing_gets_a_long_length() -> None:
    with one_thread():
        features, values = points(40)
    lengths = fit(features, np.arange(3), values).lengths
    assert lengths[2] > 3 * lengths[0]


def test_the_slope_of_the_worth_is_that_of_small_differences() -> None:
    features, values = points()
    group = np.arange(3)
    model = condition(fit(features, group, values), features, group, values)
    limits = condition(Shape(np.ones(3), 1.0, 1e-3), features, group, np.cos(4 * features[:, 0]))
    worth, at, step = Improvement(model, -1.0, limits), np.array([0.3, 0.6, 0.2]), 1e-5
    found, slope = worth.slope(at)
    assert found == pytest.approx(worth.at(at[None])[0])
    for i, unit in enumerate(np.eye(3)):
        up, down = worth.at(np.stack([at + step * unit, at - step * unit]))
        assert slope[i] == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-3)


def test_the_improvement_far_from_the_best_has_a_logarithm_and_not_minus_infinity() -> None:
    assert np.exp(log_improvement(np.array([1.0, -1.0, -2.0]))) == pytest.approx([1.08332, 0.08332, 0.008491], rel=1e-4)
    far = log_improvement(np.array([-40.0, -1e3, -1e6]))
    assert np.isfinite(far).all()
    assert far == pytest.approx([-800 - 0.9189 - 2 * math.log(40), -5e5 - 14.73, -5e11 - 28.55], rel=1e-5)


def test_losses_of_many_magnitudes_are_learned_by_their_logarithm_and_others_as_they_are() -> None:
    features, values = points(30)
    shapes = Shapes(Encoding(Space(numbers)))
    wide = np.tile(features, 2)[:, : len(Space(numbers).dimensions)]
    assert shapes.scaled(wide, values)[0] == pytest.approx(plain(values)[0])
    steep = np.exp(6 * wide[:, 0]) ** 2
    assert shapes.scaled(wide, steep)[0] == pytest.approx(logged(steep)[0])


def test_a_code_gives_its_settings_back_on_every_branch() -> None:
    space, draw = Space(mixed), np.random.default_rng(0)
    encoding = Encoding(space)
    for _ in range(40):
        settings = space.random(draw)
        row = encoding.row(settings)
        assert encoding.settings(row, draw) == pytest.approx(settings)
        assert encoding.snapped(encoding.filled(row[None], draw))[0] == pytest.approx(row, nan_ok=True)


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    asked(Gp(startup=6), mixed, hard, 16, workers=3, fresh=True)


def test_several_objectives_limits_and_failures_are_learned_from() -> None:
    late = [one.misses == 0 for one in asked(Gp(), mixed, hard, 30, workers=2)[15:] if one.scored]
    assert np.mean(late) > 0.5


def test_limits_are_kept_by_a_model_of_them() -> None:
    def end(number: int, suggestion: Suggestion) -> Past:
        over = max(0.0, 2.0 - suggestion.settings["x0"])
        return Past(number, suggestion.settings, "done", (bowl(suggestion.settings),), misses=over)

    kept = [one for one in asked(Gp(), numbers, end, 30) if one.misses == 0]
    assert best(kept) < 10  # 1 is the best that keeps the limit, 0 without it


def test_a_bowl_is_descended_far_below_what_chance_finds() -> None:
    assert best(asked(Gp(), numbers, lambda n, s: Past(n, s.settings, "done", (bowl(s.settings),)), 30)) < 1


def test_mixed_settings_become_better_than_by_chance() -> None:
    assert best(asked(Gp(), mixed, one_loss, 40)) < typical(Random(), mixed, score, 40) / 2


def test_where_all_failed_it_goes_on_elsewhere() -> None:
    found = asked(Gp(), numbers, lambda n, s: Past(n, s.settings, "failed", misses=math.inf), 12)
    assert len(found) == 12


def test_only_the_first_suggestion_says_that_branches_are_modelled_coarsely() -> None:
    pick = Gp()(Space(mixed))
    first = pick([], 0)
    assert first is not None
    assert "branches" in first.note
    after_openings = pick([Past(0, first.settings, "done", (1.0,))], 1)
    assert after_openings is not None
    assert after_openings.note == first.note
    later = pick([Past(0, first.settings, "done", (1.0,), memo=first.memo)], 1)
    assert later is not None
    assert not later.note
    plain_space = Gp()(Space(numbers))([], 0)
    assert plain_space is not None
    assert not plain_space.note


def test_a_model_of_fewer_than_two_trials_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"gp\.startup"):
        Gp(startup=1)
