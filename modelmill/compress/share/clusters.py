"""K-means of runs of numbers: the vectors that stand for them, and which one each is."""

from __future__ import annotations

import numpy as np

from modelmill.contracts import Array

ROUNDS = 25
CHUNK = 8192
"""Vectors that are compared with the centers at once."""


def clustered(vectors: Array, count: int, seed: int, metric: Array | None = None) -> tuple[Array, Array]:
    """At most so many centers (centers, length) float32, and for every vector (n, length) the number of its own.

    metric: (length, length) positive definite; distances are d'Md, so that what the layer answers is kept, not its
    weights. A center that loses its vectors takes over half of those of the fullest one.
    """
    root = np.eye(vectors.shape[1]) if metric is None else np.linalg.cholesky(metric)
    moved = vectors.astype(np.float64) @ root
    distinct = np.unique(moved, axis=0)
    random = np.random.default_rng(seed)
    if len(distinct) > count:
        centers = distinct[random.choice(len(distinct), count, replace=False)]
        for _ in range(ROUNDS):
            codes = _nearest(moved, centers)
            fresh = _means(moved, codes, centers, random)
            if np.array_equal(fresh, centers):
                break
            centers = fresh
    else:
        centers = distinct
    found = np.linalg.solve(root.T, centers.T).T.astype(np.float32)
    return found, _nearest(moved, centers)


def _nearest(vectors: Array, centers: Array) -> Array:
    squares = (centers**2).sum(1)
    parts = (vectors[start : start + CHUNK] for start in range(0, len(vectors), CHUNK))
    return np.concatenate([(squares - 2 * part @ centers.T).argmin(1) for part in parts]).astype(np.uint8)


def _means(vectors: Array, codes: Array, centers: Array, random: np.random.Generator) -> Array:
    count = len(centers)
    sizes = np.bincount(codes, minlength=count)
    sums = np.stack([np.bincount(codes, column, count) for column in vectors.T], 1)
    means = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centers)
    spread = 1e-3 * np.sqrt(((vectors - means[codes]) ** 2).mean())
    for empty in np.flatnonzero(sizes == 0):
        full = int(sizes.argmax())
        step = spread * random.standard_normal(vectors.shape[1])
        means[empty], means[full] = means[full] + step, means[full] - step
        sizes[full] //= 2
    return means
