"""How the step size moves over a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelmill.train.recipe import Recipe, Schedule


def rate(recipe: Recipe, done: float, drops: int) -> float:
    """The step size when the share `done` of all steps is behind, and it was reduced so many times on a plateau.

    While weights are collected for their mean (SWA) it stands still, and high.
    """
    if recipe.swa and done >= 1 - recipe.swa:
        return recipe.learning_rate * recipe.swa_rate
    return recipe.learning_rate * recipe.plateau_factor**drops * factor(recipe.schedule, recipe.warmup, done)


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
    if schedule in ("constant", "plateau"):
        return 1.0
    if schedule == "step":
        return 0.1 ** int(rest * 3)
    return (1 + math.cos(math.pi * min(rest, 1.0))) / 2


def _rise(schedule: Schedule, share: float) -> float:
    if schedule == "one_cycle":
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share)) / 2
    return max(share, 0.01)


@dataclass
class Plateau:
    """Counts how often a loss stopped falling; part of a training's checkpoint.

    >>> plateau = Plateau(patience=2)
    >>> for loss in (3.0, 2.0, 2.5, 2.0, 1.0):
    ...     plateau.look(loss)
    >>> plateau.drops, plateau.best
    (1, 1.0)
    """

    patience: int
    drops: int = 0
    """How often the loss did not fall for so many epochs."""
    waited: int = 0
    """Epochs since the lowest loss, or since the last drop."""
    best: float = math.inf

    def look(self, loss: float) -> None:
        """Take in the loss of one more epoch."""
        self.waited += 1
        if loss < self.best:
            self.best, self.waited = loss, 0
        elif self.waited >= self.patience:
            self.drops, self.waited = self.drops + 1, 0
