"""Means, squares and products of two series, kept so that parts merge without losing digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelmill.contracts import Array

Moments = list[float]
"""rows, mean of said, mean of true, squares of said, squares of true, products: the last three about the means."""


def moments(said: Array, true: Array) -> Moments:
    """The moments of some rows."""
    if len(true) == 0:
        return [0.0] * 6
    x, y = np.asarray(said, np.float64), np.asarray(true, np.float64)
    dx, dy = x - x.mean(), y - y.mean()
    return [float(len(y)), float(x.mean()), float(y.mean()), float(dx @ dx), float(dy @ dy), float(dx @ dy)]


def merge(first: Sequence[float], second: Sequence[float]) -> Moments:
    """The moments of both.

    Chan, Golub & LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample variances.
    """
    n, m = first[0], second[0]
    if n == 0 or m == 0:
        return list(second if n == 0 else first)
    dx, dy, share = second[1] - first[1], second[2] - first[2], m / (n + m)
    weight = n * share
    return [
        n + m,
        first[1] + dx * share,
        first[2] + dy * share,
        first[3] + second[3] + dx * dx * weight,
        first[4] + second[4] + dy * dy * weight,
        first[5] + second[5] + dx * dy * weight,
    ]
