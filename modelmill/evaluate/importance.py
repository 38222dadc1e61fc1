"""How much each setting of a search mattered: its share of the variance of quality over the trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelmill.trial import Trial

Array = np.ndarray[Any, Any]

FEWEST = 8
"""Trials below which nothing is said."""
BINS = 4


def importance(trials: Sequence[Trial], metric: str) -> dict[str, float]:
    """The share of the variance of `metric` that each setting explains by itself, largest first.

    Analysis of variance, one setting at a time: numbers fall into four bins of equal count, and what chance alone would
    explain is taken off (epsilon squared, Kelley 1935). A setting that only some trials have is judged among those, and
    weighs as much as they do. What is missing from a sum of 1 is interplay of settings, and noise.
    """
    done = [trial for trial in trials if np.isfinite(trial.metrics.get(metric, np.nan))]
    if len(done) < FEWEST:
        return {}
    scores = _clipped(np.array([trial.metrics[metric] for trial in done]))
    total = _spread(scores)
    if total <= 0:
        return {}
    shares: dict[str, float] = {}
    for name in sorted({name for trial in done for name in trial.settings}):
        having = [i for i, trial in enumerate(done) if name in trial.settings]
        groups = _groups([done[i].settings[name] for i in having])
        shares[name] = explained(scores[having], groups) * _spread(scores[having]) / total
    kept = {name: round(share, 4) for name, share in shares.items() if share >= 0.005}
    return dict(sorted(kept.items(), key=lambda item: -item[1]))


def explained(scores: Array, groups: Array) -> float:
    """The share of the variance that lies between groups, less what chance would put there (epsilon squared).

    >>> explained(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
    1.0
    >>> explained(np.array([1.0, 3.0, 1.0, 3.0]), np.array([0, 0, 1, 1]))
    0.0
    """
    count, total = len(set(groups.tolist())), _spread(scores)
    if count < 2 or count >= len(scores) or total <= 0:
        return 0.0
    within = sum(_spread(scores[groups == group]) for group in set(groups.tolist()))
    chance = (count - 1) * within / (len(scores) - count)
    return float(max(total - within - chance, 0.0) / total)


def _clipped(scores: Array) -> Array:
    """Scores without the pull of a few hopeless trials: three times the distance of the quartiles is enough."""
    low, high = np.quantile(scores, [0.25, 0.75])
    reach = 3 * max(high - low, 1e-12)
    return np.clip(scores, low - reach, high + reach)


def _spread(scores: Array) -> float:
    return float(np.sum((scores - scores.mean()) ** 2)) if len(scores) else 0.0


def _groups(values: Sequence[Any]) -> Array:
    """The group of each value: itself, or its bin where there are many different numbers."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numbers and len(set(values)) > BINS:
        array = np.array(values, float)
        return np.searchsorted(np.quantile(array, np.linspace(0, 1, BINS + 1)[1:-1]), array)
    labels = [str(value) for value in values]
    number = {label: i for i, label in enumerate(Counter(labels))}
    return np.array([number[label] for label in labels])
