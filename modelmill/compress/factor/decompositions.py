"""Matrices and kernels as products of thinner ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

TURNS = 20
"""Turns of `tucker` at most."""


def rank(values: Array, energy: float) -> int:
    """How many of the singular values, from the largest, hold that share of the sum of all squares.

    >>> rank(np.array([4.0, 3.0, 0.0]), 0.9), rank(np.array([4.0, 3.0, 0.0]), 0.6)
    (2, 1)
    """
    squares = np.cumsum(values.astype(np.float64) ** 2)
    return min(len(values), int(np.searchsorted(squares, energy * squares[-1] * (1 - 1e-12))) + 1)


def halves(matrix: Array, count: int) -> tuple[Array, Array]:
    """The two factors of the nearest matrix of that rank: (rows, count) and (count, columns).

    Eckart & Young (1936), https://doi.org/10.1007/BF02288367
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(values[:count])
    return left[:, :count] * root, root[:, None] * right[:count]


def tucker(kernel: Array, ranks: Sequence[int]) -> tuple[Array, Array, Array]:
    """The core and the factors of a kernel (outputs, inputs, places) of those ranks along outputs and inputs.

    core: (ranks[0], ranks[1], places). factors: (outputs, ranks[0]) and (inputs, ranks[1]), with orthonormal columns;
    the identity where the rank is full. Higher-order SVD, then orthogonal iteration until it gains nothing more.

    De Lathauwer, De Moor & Vandewalle (2000), https://doi.org/10.1137/S0895479898346995
    """
    outputs, inputs = _factor(kernel, 0, ranks[0]), _factor(kernel, 1, ranks[1])
    kept = 0.0
    for _ in range(TURNS):
        outputs = _factor(np.einsum("oik,ij->ojk", kernel, inputs), 0, ranks[0])
        inputs = _factor(np.einsum("oik,oj->jik", kernel, outputs), 1, ranks[1])
        core = np.einsum("oik,oa,ib->abk", kernel, outputs, inputs, optimize=True)
        now = float((core**2).sum())
        if now <= kept * (1 + 1e-9):
            break
        kept = now
    return core, outputs, inputs


def spectrum(kernel: Array, axis: int) -> Array:
    """The singular values of a kernel unfolded along an axis."""
    return np.linalg.svd(_unfolded(kernel, axis), compute_uv=False)


def _factor(kernel: Array, axis: int, count: int) -> Array:
    if count >= kernel.shape[axis]:
        return np.eye(kernel.shape[axis])
    left: Array = np.linalg.svd(_unfolded(kernel, axis), full_matrices=False)[0]
    return left[:, :count]


def _unfolded(kernel: Array, axis: int) -> Array:
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)


def lost(matrix: Array, nearly: Array) -> float:
    """The share of the sum of squares that a product does not have."""
    return float(((matrix - nearly) ** 2).sum() / max((matrix**2).sum(), 1e-300))
