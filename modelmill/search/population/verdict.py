"""Verdicts on trials as rows of figures, to compare many at a time: which are better, and how they rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelmill.history import Past

Array = np.ndarray[Any, Any]

LOST = 4.0
"""The first figure of a verdict on a trial that failed or was refused."""


def verdict(one: Past, objectives: int) -> tuple[float, ...]:
    """How good a trial is, to compare it with one other: which kind of end it had, and then its losses.

    Lower is better in the first figure; where it is equal, as far as the losses dominate. Those that keep the limits
    stand at 0, stopped ones at 1, those that miss limits between 2 and 3 by how much, and lost ones at 4.

    >>> verdict(Past(0, {}, "done", (0.5,), misses=1.0), 1), verdict(Past(1, {}, "failed"), 1)
    ((2.5, 0.0), (4.0, 0.0))
    """
    blank = (0.0,) * objectives
    if one.scored and one.misses == 0:
        return (0.0, *one.losses)
    if one.state == "stopped" and one.losses:
        return (1.0, *one.losses)
    if one.scored:
        return (2.0 + one.misses / (1 + one.misses) if np.isfinite(one.misses) else 3.0, *blank)
    return (LOST, *blank)


def judged(one: Past) -> bool:
    """Whether there is a verdict on a trial: it has ended, and if it is done its losses are known."""
    return one.state != "running" and (one.state != "done" or bool(one.losses))


def beats(one: Array, two: Array) -> Array:
    """(rows,) whether verdicts (rows, 1 + losses) are better than others: of a better kind, or they dominate them.

    >>> beats(np.array([[0, 1, 1], [0, 1, 2], [1, 0, 0]]), np.array([[0, 1, 2], [0, 2, 1], [0, 9, 9]])).tolist()
    [True, False, False]
    """
    same = one[..., 0] == two[..., 0]
    dominates = (one[..., 1:] <= two[..., 1:]).all(-1) & (one[..., 1:] < two[..., 1:]).any(-1)
    return np.asarray((one[..., 0] < two[..., 0]) | (same & dominates))


def standing(verdicts: Array) -> Array:
    """(rows,) ranks from 0, the best; with several objectives those that fewer beat stand first, equals in their order.

    >>> standing(np.array([[0, 3.0], [1, 0.0], [0, 1.0]])).tolist()
    [1, 2, 0]
    """
    if verdicts.shape[1] > 2:
        count = beats(verdicts[None, :, :], verdicts[:, None, :]).sum(axis=1)
        order = np.lexsort((count, verdicts[:, 0]))
    else:
        order = np.lexsort(verdicts.T[::-1])
    ranks = np.empty(len(verdicts), int)
    ranks[order] = np.arange(len(verdicts))
    return ranks
