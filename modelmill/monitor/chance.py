"""How likely a difference is where nothing has changed: tails of distributions, without scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TERMS = 100
"""Terms of Kolmogorov's series: far more than it takes from the smallest argument on that is summed."""

AS_LIKELY = 1 + 1e-7
"""Tables whose chances differ by less than this count as equally likely: rounding must not tell them apart."""


def kolmogorov(distance: float, first: int, second: int) -> float:
    """The chance that two samples of these sizes, drawn alike, are at least so far apart.

    >>> round(kolmogorov(0.5, 20, 20), 3)
    0.008
    """
    if not first or not second:
        return 1.0
    root = math.sqrt(first * second / (first + second))
    reach = (root + 0.12 + 0.11 / root) * distance
    if reach < 0.2:  # the series alternates too slowly there, and its sum is 1 to 12 digits
        return 1.0
    total: float = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * reach) ** 2) for k in range(1, TERMS))
    return min(1.0, max(0.0, total))


def chi_square(statistic: float, freedom: int) -> float:
    """The chance that a sum of `freedom` squared standard normal numbers is at least so large.

    >>> round(chi_square(3.841, 1), 3), round(chi_square(5.991, 2), 3)
    (0.05, 0.05)
    """
    if freedom < 1 or statistic <= 0:
        return 1.0
    half = statistic / 2
    odd = freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else math.exp(-half)
    for step in range((freedom - 1) // 2):
        power = step + (0.5 if odd else 1.0)
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
    return min(1.0, total)


def fisher(first_hits: int, first_rows: int, second_hits: int, second_rows: int) -> float:
    """The chance that shares of hits differ in a way as unlikely as this, exact however few the hits are.

    >>> round(fisher(8, 10, 1, 6), 4)
    0.035
    """
    hits, rows = first_hits + second_hits, first_rows + second_rows
    low, high = max(0, hits - first_rows), min(hits, second_rows)
    if low == high:
        return 1.0
    k = np.arange(low, high, dtype=np.float64)
    steps = np.log((hits - k) * (second_rows - k)) - np.log((k + 1) * (rows - hits - second_rows + k + 1))
    weights = np.concatenate([[0.0], np.cumsum(steps)])
    chances = np.exp(weights - weights.max())
    seen = chances[second_hits - low]
    return min(1.0, float(chances[chances <= seen * AS_LIKELY].sum() / chances.sum()))


def adjusted(chances: Sequence[float]) -> list[float]:
    """Each p-value corrected for how many there are: those at or below q are wrong in a share of q at most.

    >>> adjusted([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]

    Benjamini & Hochberg (1995), Controlling the false discovery rate, https://doi.org/10.1111/j.2517-6161.1995.tb02031.x
    """
    given = np.asarray(chances, dtype=np.float64)
    order = np.argsort(-given, kind="stable")
    ranks = np.arange(len(given), 0, -1)
    found = np.empty(len(given))
    found[order] = np.minimum.accumulate(np.minimum(1.0, given[order] * len(given) / ranks))
    return [float(value) for value in found]
