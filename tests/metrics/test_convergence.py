from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.metrics.convergence import AGREEMENT, autocorrelation, effective_sample_size, r_hat


def walks(rho: float, chains: int = 4, draws: int = 4000, seed: int = 0) -> np.ndarray:
    """Chains in which every draw is `rho` times the last and noise: AR(1), of variance 1."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(chains, draws)) * np.sqrt(1 - rho**2)
    found = np.empty((chains, draws))
    found[:, 0] = random.normal(size=chains)
    for step in range(1, draws):
        found[:, step] = rho * found[:, step - 1] + noise[:, step]
    return found


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.5, 0.9])
def test_the_effective_size_of_an_autoregressive_chain_is_that_of_the_formula(rho: float) -> None:
    chains = walks(rho)
    assert effective_sample_size(chains) / chains.size == pytest.approx((1 - rho) / (1 + rho), rel=0.15)


def test_the_correlation_of_an_autoregressive_chain_falls_by_its_factor() -> None:
    found = autocorrelation(walks(0.8, chains=1, draws=20000)[0])
    assert found[:4] == pytest.approx([1, 0.8, 0.64, 0.512], abs=0.03)


def test_the_correlation_is_that_of_its_definition() -> None:
    chain = np.random.default_rng(1).normal(size=31)
    about = chain - chain.mean()
    wanted = [float(about[lag:] @ about[: 31 - lag]) for lag in range(31)]
    assert autocorrelation(chain) == pytest.approx(np.array(wanted) / wanted[0], abs=1e-12)


def test_chains_of_one_distribution_agree_and_shifted_ones_do_not() -> None:
    chains = np.random.default_rng(2).normal(size=(4, 500))
    assert r_hat(chains) < 1.01
    assert r_hat(chains + 3 * np.array([[0], [0], [1], [1]])) > 1.5


def test_chains_of_one_mean_and_unequal_widths_do_not_agree() -> None:
    chains = np.random.default_rng(3).normal(size=(2, 500)) * [[1], [5]]
    assert r_hat(chains) > 1.1 > AGREEMENT


def test_a_chain_that_still_moves_does_not_agree_with_itself() -> None:
    assert r_hat(np.arange(200.0)[None, :]) > 1.5


def test_tails_without_a_variance_do_no_harm() -> None:
    chains = np.random.default_rng(4).standard_cauchy((4, 1000))
    assert r_hat(chains) < 1.01
    assert effective_sample_size(chains) / chains.size == pytest.approx(1, abs=0.15)


def test_the_ratio_is_that_of_pencil_and_paper() -> None:
    # Halves (1, 2), (3, 4), (1, 2), (3, 4): ranks 1.5, 3.5, 5.5, 7.5 of 8, scores -1.097, -0.309, 0.309, 1.097. The
    # variance of every half is 0.3106, that of their means (0.7028 or less that) 0.6585: sqrt(1/2 + 0.6585 / 0.3106).
    assert r_hat(np.array([[1, 2, 3, 4], [1, 2, 3, 4]])) == pytest.approx(1.6187, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100), st.floats(-50, 50))
def test_unit_and_origin_and_the_order_of_chains_make_no_difference(seed: int, scale: float, shift: float) -> None:
    chains = np.random.default_rng(seed).normal(size=(3, 40))
    moved = chains[::-1] * scale + shift
    # The two draws in the middle are equally far from the median: rounding may tell them apart, by one rank.
    assert r_hat(moved) == pytest.approx(r_hat(chains), abs=0.02)
    assert effective_sample_size(moved) == pytest.approx(effective_sample_size(chains), rel=1e-9)


@pytest.mark.parametrize("chains", [np.ones((2, 50)), np.ones((2, 3)), np.array([[1, 2, np.nan, 4, 5]])])
def test_what_has_no_figure_is_not_a_number(chains: np.ndarray) -> None:
    assert np.isnan(r_hat(chains))
    assert np.isnan(effective_sample_size(chains))


def test_chains_that_stand_still_in_two_places_never_agree() -> None:
    assert r_hat(np.repeat([[0.0], [1.0]], 20, axis=1)) == np.inf


def test_a_chain_that_never_moves_has_no_correlation() -> None:
    assert np.isnan(autocorrelation(np.ones(5))).all()
