"""What the statistics of Markov chains say of them: figures, and words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.contracts import Array
from modelmill.metrics.convergence import AGREEMENT, autocorrelation, effective_sample_size, r_hat

LOOKED_AT = 256
"""Rows whose answers are projected, at most; evenly spread."""
LAGS = 10
"""Up to which lag the summary tells the correlation of draws."""


def figures(statistics: Mapping[str, Array]) -> dict[str, float]:
    """The worst of all statistics, each (chains, draws): `ess` and `r_hat`; left out where they are not defined."""
    found = {
        "ess": min((effective_sample_size(draws) for draws in statistics.values()), default=math.nan),
        "r_hat": max((r_hat(draws) for draws in statistics.values()), default=math.nan),
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def projection(said: Array) -> float:
    """One number of what is said of all rows (rows, outputs): along a direction that is always the same."""
    looked = said[:: max(1, -(-len(said) // LOOKED_AT))]
    direction = np.random.default_rng(0).normal(size=looked.shape)
    return float((looked * direction).sum() / np.sqrt(looked.size))


def words(statistics: Mapping[str, Array]) -> str:
    """Whether the chains have converged, in words.

    >>> words({"log_posterior": np.random.default_rng(0).normal(size=(2, 500))})
    '2 chains of 500 draws, worth 999 independent ones; R-hat 1.00: the chains agree'
    """
    chains, draws = next(iter(statistics.values())).shape
    found = figures(statistics)
    counted = f"{chains} chain{'s' if chains > 1 else ''} of {draws} draw{'s' if draws > 1 else ''}"
    if "r_hat" not in found:
        return f"{counted}: too few, or too alike, to tell whether they have converged: more epochs"
    worth = f"{counted}, worth {found['ess']:.0f} independent ones" if "ess" in found else counted
    told = f"{worth}; R-hat {found['r_hat']:.2f}"
    if found["r_hat"] >= AGREEMENT:
        return f"{told}: the {'chains have' if chains > 1 else 'chain has'} not converged: more epochs"
    return f"{told}: the {'chains agree' if chains > 1 else 'halves of the chain agree'}"


def summary(
    statistics: Mapping[str, Array], trace: Mapping[str, Array], weights: Mapping[str, Array]
) -> dict[str, Any]:
    """Transition and marginal statistics of chains, as JSON has them.

    statistics: of every draw, each (chains, draws). trace: of every epoch, each (chains, epochs). weights: the drawn
    weights of every layer, each (chains, draws, weights).
    """
    return {
        **figures(statistics),
        "marginal": {name: _marginal(draws) for name, draws in statistics.items()},
        "transition": {name: _spread(values) for name, values in trace.items()},
        "weights": {
            name: {"mean": float(draws.mean()), "deviation": float(draws.std(axis=(0, 1)).mean())}
            for name, draws in weights.items()
        },
    }


def _marginal(draws: Array) -> dict[str, Any]:
    lags = [autocorrelation(chain)[: LAGS + 1].round(4).tolist() for chain in draws]
    known = {"ess": effective_sample_size(draws), "r_hat": r_hat(draws)}
    return {
        **_spread(draws),
        **{name: value if math.isfinite(value) else None for name, value in known.items()},
        "autocorrelation": [[value if math.isfinite(value) else None for value in chain] for chain in lags],
    }


def _spread(values: Array) -> dict[str, float]:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "p5": float(low),
        "p50": float(middle),
        "p95": float(high),
    }
