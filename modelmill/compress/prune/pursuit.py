"""Which trees of an ensemble say nearly what all of them say, and what each of those has to count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelmill.compress.prune.ensemble import Ensemble
from modelmill.contracts import Array
from modelmill.dataset import Dataset

MOST = 20_000_000
"""Numbers that are held at once; with many trees and outputs fewer rows are looked at."""

LEAST = 16
"""Rows that are looked at, whatever the number of trees."""

SWAPPED = 0.1
"""The share of values that rows take from others."""

RIDGE = 1e-9
"""What is added to the diagonal of the normal equations, as a share of their mean diagonal."""


def contributions(ensemble: Ensemble, data: Dataset, rows: int, seed: int) -> Array:
    """(trees, rows times outputs) what each tree adds to the answers to at most so many rows, drawn at random."""
    values = ensemble.values()
    rows = min(rows, max(LEAST, MOST // (ensemble.trees * values.shape[1])))
    if data.rows > rows:
        data = data.take(np.sort(np.random.default_rng(seed).permutation(data.rows)[:rows]))
    leaves = ensemble.reached(crossed(data, SWAPPED, seed))
    found = values[leaves.T].reshape(ensemble.trees, -1)
    return found / ensemble.trees if ensemble.average else found


def crossed(data: Dataset, share: float, seed: int) -> Dataset:
    """The rows with that share of their values taken from other rows, column by column, pixel by pixel.

    Trees know the rows that they grew on by heart, and agree on them as they do on no others.

    Bucila, Caruana & Niculescu-Mizil (2006), https://doi.org/10.1145/1150402.1150464
    """
    draw = np.random.default_rng(seed)
    partners = draw.permutation(data.rows)
    columns = {
        name: np.where(draw.random(column.shape) < share, column[partners], column)
        for name, column in data.columns.items()
    }
    return replace(data, columns=columns)


def chosen(parts: Array, most: int) -> tuple[Array, Array]:
    """The places of at most so many parts, rising, and weights above 0 with which they sum to the sum of all.

    parts: (parts, values). Orthogonal matching pursuit on the normal equations, and weights by non-negative least
    squares.

    >>> places, weights = chosen(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]]), 2)
    >>> places.tolist(), weights.round(1).tolist()
    ([1, 2], [1.5, 0.9])
    """
    from scipy.optimize import nnls

    products = parts @ parts.T
    wanted = products.sum(axis=1)
    norms = np.sqrt(np.maximum(np.diag(products), 1e-300))
    ridge = RIDGE * np.trace(products) / len(parts)
    kept: list[int] = []
    left = wanted.copy()
    while len(kept) < min(most, len(parts)):
        gain = left / norms
        gain[kept] = -np.inf
        kept.append(int(np.argmax(gain)))
        matrix = products[np.ix_(kept, kept)] + ridge * np.eye(len(kept))
        left = wanted - products[:, kept] @ np.linalg.solve(matrix, wanted[kept])
    places = np.sort(kept)
    lower = np.linalg.cholesky(products[np.ix_(places, places)] + ridge * np.eye(len(places)))
    weights, _ = nnls(lower.T, np.linalg.solve(lower, wanted[places]))
    return places[weights > 0], weights[weights > 0]
