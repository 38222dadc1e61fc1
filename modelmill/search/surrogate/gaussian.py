"""Gaussian processes: what a loss may be where it was not tried, with how sure that is.

Matern 5/2 with a length for every dimension; lengths are drawn to the longer, the more dimensions there are.

Rasmussen, Williams (2006), Gaussian Processes for Machine Learning, http://gaussianprocess.org/gpml/;
Hvarfner, Hellsten, Nardi (2024), https://arxiv.org/abs/2402.02229, for the prior of the lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SHARPEST, SMOOTHEST = math.log(0.03), math.log(1e3)
"""Bounds of the logarithm of a length."""
QUIETEST = math.log(1e-7)
"""The least logarithm of noise, as a part of the variance of what is learned."""
LENGTH_SPREAD = 0.8
"""How far the logarithm of a length is likely to lie from that of the root of the number of dimensions.

Wider priors let dimensions that seem to do nothing at first be forgotten, and what they do is never found out.
"""
JITTER = 1e-8


@dataclass(frozen=True, eq=False)
class Shape:
    """What is learned about a function before it is conditioned on points."""

    lengths: Array
    """(groups,) in which distance it forgets itself, by dimension."""
    scale: float
    """The variance of the function."""
    noise: float
    """The variance of what is seen of it, without the function's."""
    evidence: float = 0.0
    """The logarithm of how likely what was seen is, and the shape itself."""


@dataclass(frozen=True, eq=False)
class Process:
    """A Gaussian process that has seen points."""

    shape: Shape
    seen: Array
    """(points, features), each feature divided by its length."""
    inverse: Array
    """(points, points), of the lower root of the covariance."""
    weights: Array
    """(points,), of the covariance of a new point with each seen one, in its mean."""
    stretch: Array
    """(features,), one over the length."""

    def at(self, features: Array) -> tuple[Array, Array]:
        """The mean and the standard deviation (rows,) of the function at rows of features."""
        near = matern(squares(features * self.stretch, self.seen), self.shape.scale)
        left = near @ self.inverse.T
        variance = self.shape.scale - np.einsum("ij,ij->i", left, left)
        return near @ self.weights, np.sqrt(np.maximum(variance, 1e-12))

    def slope(self, features: Array) -> tuple[float, float, Array, Array]:
        """Mean and standard deviation at one row (features,), and how they change with each feature."""
        away = features * self.stretch - self.seen
        distance = np.sqrt(5.0 * np.einsum("ij,ij->i", away, away))
        fall = self.shape.scale * np.exp(-distance)
        near = fall * (1 + distance + distance**2 / 3)
        change = (-5 / 3) * (fall * (1 + distance))[:, None] * away * self.stretch
        left = self.inverse @ near
        deviation = math.sqrt(max(self.shape.scale - left @ left, 1e-12))
        back = self.inverse.T @ left
        return float(near @ self.weights), deviation, change.T @ self.weights, -(change.T @ back) / deviation


def squares(one: Array, two: Array) -> Array:
    """(rows of one, rows of two) squared distances."""
    found = (one**2).sum(1)[:, None] + (two**2).sum(1)[None, :] - 2 * one @ two.T
    return np.asarray(np.maximum(found, 0.0))


def matern(square: Array, scale: float) -> Array:
    """The covariance at squared distances."""
    distance = np.sqrt(5.0 * square)
    return np.asarray(scale * (1 + distance + distance**2 / 3) * np.exp(-distance))


def condition(shape: Shape, features: Array, group: Array, values: Array) -> Process:
    """The process of a shape after it has seen values (points,) at features (points, features)."""
    from scipy.linalg import cholesky, solve_triangular

    stretch = 1 / shape.lengths[group]
    seen = features * stretch
    covariance = matern(squares(seen, seen), shape.scale)
    covariance[np.diag_indices_from(covariance)] = shape.scale * (1 + JITTER) + shape.noise
    root = cholesky(covariance, lower=True, check_finite=False)
    inverse = solve_triangular(root, np.eye(len(root)), lower=True, check_finite=False)
    return Process(shape, seen, inverse, inverse.T @ (inverse @ values), stretch)


def fit(features: Array, group: Array, values: Array, steps: int = 40) -> Shape:
    """The likeliest shape given points, and what is likely beforehand; values have about mean 0 and variance 1."""
    from scipy.optimize import minimize

    groups = int(group.max()) + 1 if len(group) else 0
    apart = np.stack([squares(features[:, group == g], features[:, group == g]).ravel() for g in range(groups)])
    middle = np.array([*[math.log(max(groups, 1)) / 2] * groups, 0.0, math.log(1e-3)])
    spread = np.array([*[LENGTH_SPREAD] * groups, 1.0, 2.0])
    bounds = [(SHARPEST, SMOOTHEST)] * groups + [(math.log(0.05), math.log(1e4)), (QUIETEST, 0.0)]
    start = np.array([*[math.log(0.5 * math.sqrt(max(groups, 1)))] * groups, 0.0, math.log(1e-3)])

    def loss(parameters: Array) -> tuple[float, Array]:
        found, slope = unlikeliness(parameters, apart, values)
        off = (parameters - middle) / spread
        return found + 0.5 * float(off @ off), slope + off / spread

    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    found = np.exp(best.x)
    return Shape(found[:groups], float(found[-2]), float(found[-1]), -float(best.fun))


def unlikeliness(parameters: Array, apart: Array, values: Array) -> tuple[float, Array]:
    """The negative logarithm of the likelihood of values, and its slope.

    parameters: the logarithms of (lengths, scale, noise). apart: (groups, points * points) squared distances.

    Rasmussen, Williams (2006), equations 5.8 and 5.9.
    """
    from scipy.linalg.lapack import dpotrf, dpotri

    count = len(values)
    inverse_squares = np.exp(-2 * parameters[:-2])
    scale, noise = np.exp(parameters[-2:])
    distance = np.sqrt(5.0 * (inverse_squares @ apart))
    fall = scale * np.exp(-distance)
    clean = (fall * (1 + distance + distance**2 / 3)).reshape(count, count)
    covariance = clean.copy()
    covariance[np.diag_indices(count)] += noise + scale * JITTER
    root, failed = dpotrf(covariance, lower=1)
    if failed:
        return 1e10, np.zeros(len(parameters))
    lower = np.tril(dpotri(root, lower=1)[0])
    inverse = lower + lower.T - np.diag(np.diag(lower))
    weights = inverse @ values
    found = 0.5 * float(values @ weights) + float(np.log(np.diag(root)).sum())
    surplus = inverse - np.outer(weights, weights)
    pull = surplus.ravel() * (5 / 3 * fall * (1 + distance))
    slope = np.empty(len(parameters))
    slope[:-2] = 0.5 * inverse_squares * (apart @ pull)
    slope[-2] = 0.5 * float((surplus * clean).sum())
    slope[-1] = 0.5 * noise * float(np.trace(surplus))
    return found, slope
