"""How the step size moves over a training, as a share of its largest value."""

from __future__ import annotations

import math

from modelmill.train.recipe import Schedule


def factor(schedule: Schedule, warmup: float, done: float) -> float:
    """The share of the learning rate to use when the share `done` of all steps is behind.

    >>> [round(factor("cosine", 0.5, done), 2) for done in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.01, 0.5, 1.0, 0.5, 0.0]

    Cosine: Loshchilov & Hutter (2017), https://arxiv.org/abs/1608.03983; one_cycle: Smith & Topin (2018),
    https://arxiv.org/abs/1708.07120
    """
    if schedule == "one_cycle":
        warmup = max(warmup, 0.3)
    if done < warmup:
        return _rise(schedule, done / warmup)
    rest = (done - warmup) / (1 - warmup)
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return 0.1 ** int(rest * 3)
    return (1 + math.cos(math.pi * min(rest, 1.0))) / 2


def _rise(schedule: Schedule, share: float) -> float:
    if schedule == "one_cycle":
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share)) / 2
    return max(share, 0.01)
