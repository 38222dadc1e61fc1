"""How much each setting of a search mattered: its share of the variance of a figure over the trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from modelmill.evaluate.story import figures
from modelmill.trial import Trial

Array = np.ndarray[Any, Any]

FEWEST = 8
"""Trials below which nothing is said."""
BINS = 4

FEWEST_OF_PAIRS = 24
"""Trials below which nothing is said of the interplay of two settings."""

PAIRED = 8
"""So many of the settings that mattered most are looked at in pairs."""

LEAST_OF_PAIRS = 0.02
"""A share of interplay that is worth a word."""


def shares(trials: Sequence[Trial], asked: Sequence[str], metric: str) -> dict[str, Any]:
    """What a report holds of what mattered: for the metric, for every figure that was asked about, and in pairs."""
    found = {name: importance(trials, name) for name in dict.fromkeys([metric, *asked])}
    return {
        "importance": found[metric],
        "importances": found,
        "interplay": interplay(trials, metric, found[metric]),
    }


def importance(trials: Sequence[Trial], name: str) -> dict[str, float]:
    """The share of the variance of a metric or cost that each setting explains by itself, largest first.

    Analysis of variance, one setting at a time: numbers fall into four bins of equal count, and what chance alone would
    explain is taken off (epsilon squared, Kelley 1935). A setting that only some trials have is judged among those, and
    weighs as much as they do. What is missing from a sum of 1 is interplay of settings, and noise; settings that were
    picked together explain the same, and then all shares are cut down to a sum of 1. A cost counts by its logarithm
    where it differs much.
    """
    done, scores = _scored(trials, name)
    total = _spread(scores)
    if total <= 0:
        return {}
    shares: dict[str, float] = {}
    for setting in sorted({setting for trial in done for setting in trial.settings}):
        having = [i for i, trial in enumerate(done) if setting in trial.settings]
        groups = _groups([done[i].settings[setting] for i in having])
        shares[setting] = explained(scores[having], groups) * _spread(scores[having]) / total
    whole = max(1.0, sum(shares.values()))
    kept = {setting: round(share / whole, 4) for setting, share in shares.items() if share / whole >= 0.005}
    return dict(sorted(kept.items(), key=lambda item: -item[1]))


def interplay(trials: Sequence[Trial], name: str, shares: dict[str, float]) -> list[tuple[str, str, float]]:
    """Pairs of settings that explain more together than each by itself, and by how much, largest first.

    shares: what `importance` said; only its first settings are paired. Judged among the trials that have both, as
    `importance` judges one.
    """
    done, scores = _scored(trials, name)
    total, found = _spread(scores), []
    for first, second in combinations(list(shares)[:PAIRED], 2):
        having = [i for i, trial in enumerate(done) if first in trial.settings and second in trial.settings]
        if len(having) < FEWEST_OF_PAIRS or total <= 0:
            continue
        one, two = (_groups([done[i].settings[setting] for i in having]) for setting in (first, second))
        both = _groups([f"{a} {b}" for a, b in zip(one.tolist(), two.tolist(), strict=True)])
        own = [explained(scores[having], groups) for groups in (one, two)]
        share = (explained(scores[having], both) - sum(own)) * _spread(scores[having]) / total
        if share >= LEAST_OF_PAIRS:
            found.append((first, second, round(share, 4)))
    return sorted(found, key=lambda pair: -pair[2])


def _scored(trials: Sequence[Trial], name: str) -> tuple[list[Trial], Array]:
    """The trials that were finished with a figure of that name, and the figures; nothing where they are too few."""
    done = [trial for trial in trials if trial.state == "done" and np.isfinite(figures(trial).get(name, np.nan))]
    if len(done) < FEWEST:
        return [], np.zeros(0)
    scores = np.array([figures(trial)[name] for trial in done])
    wide = name not in done[0].metrics and bool(scores.min() > 0) and scores.max() > 6 * scores.min()
    return done, _clipped(np.log(scores) if wide else scores)


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
