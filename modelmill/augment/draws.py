"""One random number for every image of a batch, as a tensor that broadcasts over it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

Random = np.random.Generator


def around_zero(random: Random, most: float, rows: int) -> Tensor:
    """(rows, 1, 1, 1) numbers between -most and most."""
    return shaped(random.uniform(-most, most, rows))


def around_one(random: Random, share: float, rows: int) -> Tensor:
    """(rows, 1, 1, 1) factors between 1 / (1 + share) and 1 + share: as often a growth as its inverse.

    >>> float(around_one(np.random.default_rng(0), 0.0, 1))
    1.0
    """
    most = math.log1p(share)
    return shaped(np.exp(random.uniform(-most, most, rows)))


def shaped(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
    """(rows, 1, 1, 1) float32 of (rows,) numbers."""
    return torch.from_numpy(values).float().reshape(-1, 1, 1, 1)


def generator(*parts: int) -> Random:
    """A generator that depends on the numbers given alone."""
    return np.random.default_rng([int(part) for part in parts])
