"""The dynamics and the density: figures that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelmill.errors import TrialError
from modelmill.task.classify import Classify
from modelmill.task.regress import Regress
from modelmill.train.chains.langevin import LOWEST, WANTED, Spread, calmer, propose, stage, step
from modelmill.train.chains.posterior import Posterior, restarted
from modelmill.train.chains.walk import walk, walk_exactly
from modelmill.train.rows import Rows

NOISE, PRIOR = 0.5, 2.0


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(rows: int = 100) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Rows of a linear truth, and the mean and covariance of the weights and the bias given them."""
    draw = np.random.default_rng(1)
    x = draw.normal(size=(rows, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    y = x @ [1.0, -0.5] + 0.3 + NOISE * draw.normal(size=rows)
    design = np.column_stack([x, np.ones(rows)])
    covariance = np.linalg.inv(design.T @ design / NOISE**2 + np.eye(3) / PRIOR**2)
    tensors = [torch.from_numpy(values.astype(np.float32)) for values in (x, y)]
    return Rows(tensors[0], tensors[1], None, y), covariance @ design.T @ y / NOISE**2, covariance


def posterior(rows: Rows) -> Posterior:
    return Posterior(restarted(torch.nn.Linear(2, 1), 0), rows, Regress(), PRIOR, NOISE)


def test_steps_on_a_normal_density_have_the_variance_that_their_size_gives_them() -> None:
    # x' = (1 - size / 2) x + sqrt(size) z stays at the variance 1 / (1 - size / 4): 4 / 3 at 1.
    places = torch.zeros(20_000)
    noise = random()
    for _ in range(40):
        step(places, places.clone(), 1.0, 1.0, noise)
    assert float(places.var()) == pytest.approx(4 / 3, abs=0.05)
    assert float(places.mean()) == pytest.approx(0, abs=0.04)


def test_a_colder_density_is_narrower_by_its_temperature() -> None:
    places = torch.zeros(20_000)
    noise = random()
    for _ in range(150):
        step(places, places.clone(), 0.1, 0.25, noise)
    assert float(places.var()) == pytest.approx(0.25 / (1 - 0.1 / 4), rel=0.05)


def test_steps_that_may_be_refused_have_the_variance_of_the_density_at_any_size() -> None:
    place, noise, draws, told = torch.zeros(1), random(1), [], []
    for _ in range(3000):
        there, accepted = propose(place, 1.5, 1.0, noise, lambda x: (float(x @ x) / 2, x))
        place = there if torch.rand(1, generator=noise) < accepted else place
        draws.append(float(place))
        told.append(accepted)
    assert np.var(draws) == pytest.approx(1.0, abs=0.12)  # 1.6 without refusals
    assert 0.6 < np.mean(told) < 1


def test_a_place_of_no_density_is_never_taken() -> None:
    assert propose(torch.zeros(1), 1.0, 1.0, random(), lambda x: (float("nan") if x.any() else 0.0, x))[1] == 0.0


def test_the_slope_of_all_rows_is_that_of_the_energy() -> None:
    rows, _, _ = linear()
    density = posterior(rows)
    place = density.weights.clone()
    _, slope = density.at(place)
    for number in range(3):
        away = torch.zeros(3)
        away[number] = 1e-2
        rise = density.at(place + away)[0] - density.at(place - away)[0]
        assert float(slope[number]) == pytest.approx(rise / 2e-2, rel=1e-2)
    assert torch.equal(density.weights, place)


def test_langevin_steps_on_batches_find_the_posterior_of_a_linear_regression() -> None:
    rows, mean, covariance = linear()
    density, draw, draws = posterior(rows), np.random.default_rng(2), []
    for epoch in range(400):
        walk(density, [stage(1.0, 0.0, 0, 0.0)] * 4, 0.02, 1.0, draw)
        draws += [density.weights.numpy().copy()] if epoch >= 20 else []
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs(np.mean(draws, 0) - mean).max() < 0.5 * deviation.min()  # zero is 18 deviations away
    assert np.std(draws, 0) == pytest.approx(deviation, rel=0.25)


def test_exact_steps_find_the_posterior_of_a_linear_regression() -> None:
    rows, mean, covariance = linear()
    density, draw, draws = posterior(rows), np.random.default_rng(3), []
    for epoch in range(600):
        walk_exactly(density, 0.15, 1.0, draw)
        draws += [density.weights.numpy().copy()] if epoch >= 50 else []
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs(np.mean(draws, 0) - mean).max() < 0.5 * deviation.min()  # zero is 18 deviations away
    assert np.std(draws, 0) == pytest.approx(deviation, rel=0.25)


def test_the_noise_of_numbers_is_drawn_near_the_residuals() -> None:
    rows, _, _ = linear(400)
    density = Posterior(torch.nn.Linear(2, 1), rows, Regress(), PRIOR, 0.0)
    drawn, draw = [], np.random.default_rng(0)
    for _ in range(300):
        density.draw_noise(NOISE**2, 1.0, draw)
        drawn.append(density.variance)
    assert np.mean(drawn) == pytest.approx(NOISE**2, rel=0.02)
    assert np.std(drawn) == pytest.approx(NOISE**2 * np.sqrt(2 / 400), rel=0.15)


def test_a_schedule_descends_then_cycles_from_large_quiet_steps_to_small_noisy_ones() -> None:
    stages = [stage(done / 100, 0.2, 2, 0.5) for done in range(100)]
    assert set(stages[:20]) == {(1.0, False)}
    assert stages[20] == stages[60] == (1.0, False)
    assert [now.noisy for now in stages[20:60]] == [False] * 20 + [True] * 20
    assert LOWEST < stages[59].factor < 0.06
    assert stages[39].factor > stages[41].factor > stages[59].factor


def test_the_spread_of_batches_is_their_greatest_variance_where_one_direction_holds_most() -> None:
    draw, spread = np.random.default_rng(0), Spread()
    deviation = np.array([3.0] + [0.1] * 50)
    for _ in range(4000):
        spread.add(torch.from_numpy(draw.normal(size=51) * deviation))
    assert spread.variance == pytest.approx(9, rel=0.1)


def test_the_step_size_settles_where_batches_add_the_wanted_share() -> None:
    size = 1.0
    for _ in range(40):
        size = calmer(size, 1.0, 0.5, 0.1, variance=400.0)
    assert size * 400 / (4 * 0.1) == pytest.approx(0.5, rel=1e-4)
    assert calmer(size, 1.0, 0.5, 0.1, variance=1e-9) <= 1.0


def test_dropout_has_no_part_in_the_density() -> None:
    rows, _, _ = linear()
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.9), torch.nn.Linear(8, 1))
    density = Posterior(network, rows, Regress(), PRIOR, NOISE)
    assert density.loss() == density.loss()
    assert density.loss() == density.slope()[0]


def test_weights_that_stand_still_are_not_drawn() -> None:
    rows, _, _ = linear()
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    network[0].requires_grad_(False)
    density = Posterior(network, rows, Regress(), PRIOR, NOISE)
    walk(density, [stage(1.0, 0.0, 0, 0.0)] * 4, 0.01, 1.0, np.random.default_rng(0))
    assert len(density.weights) == 4
    assert torch.equal(density.module[0].weight, network[0].weight)
    assert not torch.equal(density.module[1].weight, network[1].weight)


def test_a_walk_that_loses_its_way_says_what_to_try() -> None:
    rows = Rows(torch.full((32, 2), 1e20), torch.zeros(32), None, np.zeros(32))
    density = Posterior(torch.nn.Linear(2, 1), rows, Regress(), PRIOR, NOISE)
    with pytest.raises(TrialError, match="Lower the learning rate"):
        walk(density, [stage(0.0, 0.0, 0, 0.0)] * 2, 1.0, 1.0, np.random.default_rng(0))


def test_the_posterior_of_classes_counts_every_row_once() -> None:
    rows = Rows(torch.randn(30, 2, generator=random()), torch.arange(30) % 3, None, np.arange(30) % 3)
    density = Posterior(torch.nn.Linear(2, 3), rows, Classify(), 1.0, None)
    raw = density.module(rows.features)
    told = torch.nn.functional.cross_entropy(raw, rows.encoded, reduction="sum")
    wanted = float(told.detach() + density.weights.square().sum() / 2)
    assert density.energy(density.loss()) == pytest.approx(wanted, rel=1e-5)
    assert WANTED == 0.574
