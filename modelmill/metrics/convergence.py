"""Whether Markov chains have converged: how many independent draws they are worth, and whether they agree."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from modelmill.contracts import Array

AGREEMENT = 1.05
"""Chains agree where R-hat is below this: between the 1.01 asked of long chains and the 1.1 of old for short ones."""
FEWEST = 4
"""Draws that a chain must have for its halves to have a variance."""


def effective_sample_size(chains: Array) -> float:
    """How many independent draws the chains (chains, draws) are worth for a mean; NaN where it is not defined.

    The bulk one: of the halves of all chains, by ranks, so that long tails do no harm. Draws that alternate are worth
    more than their number. Not defined for less than four draws a chain, for draws that are not numbers, or all equal.

    >>> round(effective_sample_size(np.random.default_rng(0).normal(size=(2, 1000))) / 2000, 1)
    1.0

    Vehtari et al. (2021), https://arxiv.org/abs/1903.08008, equations 10 to 14
    """
    ranked = _normal(_halves(chains))
    return float("nan") if ranked is None else _size(ranked)


def r_hat(chains: Array) -> float:
    """How much wider all chains (chains, draws) are together than each alone: 1 where they agree, NaN where undefined.

    The greater of two figures: of ranks, which sees places that differ, and of ranks of distances from the median,
    which sees widths that differ. A single chain is compared with itself: its first half with its second.

    >>> draws = np.random.default_rng(0).normal(size=(2, 1000))
    >>> round(r_hat(draws), 2), r_hat(draws + [[0], [3]]) > 1.5
    (1.0, True)

    Vehtari et al. (2021), https://arxiv.org/abs/1903.08008, sections 3 and 4
    """
    halves = _halves(chains)
    if halves is None:
        return float("nan")
    ranked, folded = _normal(halves), _normal(np.abs(halves - np.median(halves)))
    return max((_ratio(values) for values in (ranked, folded) if values is not None), default=float("nan"))


def autocorrelation(chain: Array) -> Array:
    """The correlation of a chain (draws,) with itself, so many draws later: (draws,) from lag 0, where it is 1.

    NaN at every lag where all draws are equal.

    >>> autocorrelation(np.array([1.0, -1.0, 1.0, -1.0])).round(9).tolist()
    [1.0, -0.75, 0.5, -0.25]
    """
    found = _autocovariance(np.asarray(chain, np.float64)[None, :])[0]
    return found / found[0] if found[0] > 0 else np.full(len(found), np.nan)


def _halves(chains: Array) -> Array | None:
    """Both halves of every chain (2 chains, draws // 2), the middle draw left out; None where there are too few."""
    draws = np.atleast_2d(np.asarray(chains, np.float64))
    half = draws.shape[1] // 2
    if draws.shape[1] < FEWEST or not np.isfinite(draws).all():
        return None
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _normal(halves: Array | None) -> Array | None:
    """The draws with their ranks among all as normal scores, equal ones alike; None where all are equal."""
    if halves is None or (halves == halves.flat[0]).all():
        return None
    _, places, counts = np.unique(halves, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    inverse = NormalDist().inv_cdf
    scores = np.array([inverse(share) for share in (ranks - 3 / 8) / (halves.size + 1 / 4)])
    return np.asarray(scores[places].reshape(halves.shape))


def _ratio(draws: Array) -> float:
    """The square root of the variance of all draws over the mean variance of a chain."""
    within = float(draws.var(axis=1, ddof=1).mean())
    between = float(draws.mean(axis=1).var(ddof=1))
    length = draws.shape[1]
    return float(np.sqrt((length - 1) / length + between / within)) if within else float("inf")


def _size(draws: Array) -> float:
    """All draws over the time in which they forget: the sum of correlations, while pairs of them stay positive."""
    length = draws.shape[1]
    covariance = _autocovariance(draws).mean(axis=0)
    within = covariance[0] * length / (length - 1)
    total = covariance[0] + float(draws.mean(axis=1).var(ddof=1))
    correlation = 1 - (within - covariance) / total
    correlation[0] = 1.0
    pairs = correlation[: length // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    kept = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    return float(draws.size / max(2 * kept.sum() - 1, 1 / np.log10(draws.size)))


def _autocovariance(draws: Array) -> Array:
    """The covariance of every row of (chains, draws) with itself at every lag, divided by the number of draws."""
    length = draws.shape[1]
    about = draws - draws.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(about, 2 * length, axis=1)
    return np.asarray(np.fft.irfft(np.abs(spectrum) ** 2, 2 * length, axis=1)[:, :length] / length)
