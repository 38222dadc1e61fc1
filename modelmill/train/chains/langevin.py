"""Langevin dynamics: steps down an energy, with as much noise as makes their places draws from its density."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Slope = Callable[[Tensor], tuple[float, Tensor]]
"""The energy at a place, and how it changes there: the negative logarithm of the density, in nats."""

LOWEST = 0.05
"""The step size at the end of a cycle, as a share of that at its start; at zero all draws would be one."""
GAIN = 0.3
"""How far the step size goes, on a logarithmic scale, to where one epoch's measurement would have it."""
WANTED = 0.574
"""The share of steps that is best accepted.

Roberts & Rosenthal (1998), Optimal scaling of discrete approximations to Langevin diffusions.
"""


class Stage(NamedTuple):
    """What a step is like at some place of the schedule."""

    factor: float
    """Its size, as a share of the greatest."""
    noisy: bool
    """Whether noise is added: only then are its places draws."""


def stage(done: float, burn_in: float, cycles: int, explore: float) -> Stage:
    """The stage when the share `done` of all steps is behind.

    Burn-in descends at full size without noise. Then in every cycle the size falls by a cosine, and noise is added
    when the share `explore` of the cycle is over. Without cycles the size stays, and there is noise from burn-in on.

    >>> [stage(done, 0.2, 2, 0.5) for done in (0.1, 0.2)]
    [Stage(factor=1.0, noisy=False), Stage(factor=1.0, noisy=False)]
    >>> stage(0.4, 0.2, 2, 0.5)
    Stage(factor=0.525, noisy=True)

    Zhang et al. (2020), https://arxiv.org/abs/1902.03932, equation 1 and algorithm 1
    """
    if done < burn_in:
        return Stage(1.0, False)
    if not cycles:
        return Stage(1.0, True)
    inner = round((done - burn_in) / (1 - burn_in) * cycles, 9) % 1
    return Stage(LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * inner)) / 2, inner >= explore)


def step(place: Tensor, slope: Tensor, size: float, temperature: float, random: torch.Generator) -> None:
    """Move a place (weights,) by one step, in place: half of `size` down the slope, and noise of that variance.

    With a temperature of 0 there is no noise.

    Welling & Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics, equation 4
    """
    place.add_(slope, alpha=-size / 2)
    if temperature:
        place.add_(torch.randn(place.shape, generator=random), alpha=math.sqrt(size * temperature))


def propose(
    place: Tensor, size: float, temperature: float, random: torch.Generator, slope: Slope
) -> tuple[Tensor, float]:
    """A step, and the probability with which it is to be taken so that the places are draws without any error.

    The slope must be that of all rows: the energy of a batch is another energy.

    Roberts & Tweedie (1996), https://doi.org/10.2307/3318418
    """
    energy, down = slope(place)
    noise = torch.randn(place.shape, generator=random)
    there = place - size / 2 * down + math.sqrt(size * temperature) * noise
    energy_there, down_there = slope(there)
    back = place - there + size / 2 * down_there
    forth = float(noise @ noise) / 2
    ratio = (energy - energy_there) / temperature + forth - float(back @ back) / (2 * size * temperature)
    return there, math.exp(min(ratio, 0.0)) if math.isfinite(ratio) else 0.0


@dataclass
class Spread:
    """How much the slopes of batches differ, in the direction in which they differ most.

    Two slopes of two batches differ by a draw of twice their covariance. Two such draws from batches of their own are
    as parallel as few directions hold most of it: their squared product tells the trace of its square, their length
    its own. The ratio lies between the mean and the greatest variance, and near the greatest where few directions
    matter. Nothing but two vectors is kept.
    """

    _first: Tensor | None = None
    _apart: Tensor | None = None
    _products: float = 0.0
    _pairs: int = 0
    _lengths: float = 0.0
    _count: int = 0

    def add(self, slope: Tensor) -> None:
        """Take in the slope of a batch."""
        if self._first is None:
            self._first = slope
            return
        apart = slope - self._first
        if self._apart is not None:
            self._products += float(apart @ self._apart) ** 2 / 4
            self._pairs += 1
        self._lengths += float(apart @ apart) / 2
        self._count += 1
        self._first, self._apart = None, apart

    @property
    def variance(self) -> float:
        """The variance in that direction; 0 where too few slopes were seen."""
        if not self._pairs or not self._lengths:
            return 0.0
        return (self._products / self._pairs) / (self._lengths / self._count)


def calmer(size: float, most: float, share: float, temperature: float, variance: float) -> float:
    """The step size nearer to where batches add the wanted share to the variance of the noise, and `most` at most.

    A step adds `size * temperature` of noise on purpose, and `size**2 / 4 * variance` by its batch.

    >>> round(calmer(0.1, 1.0, 0.5, 1.0, 200.0), 3)  # batches add 5 times the noise: a tenth of the size would do
    0.05

    Welling & Teh (2011), on where sampling begins
    """
    if variance <= 0:
        return size
    added = size * variance / (4 * temperature)
    return float(min(most, size * (share / added) ** GAIN))


def steadier(size: float, accepted: float) -> float:
    """The step size after one of which the share `accepted` was to be taken: greater where that is more than wanted.

    >>> steadier(1.0, WANTED), round(steadier(1.0, 0.0), 2)
    (1.0, 0.84)
    """
    return float(size * math.exp(GAIN * (accepted - WANTED)))
