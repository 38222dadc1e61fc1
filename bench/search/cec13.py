"""The first ten functions of the CEC 2013 niching competition, and its way of counting the optima that were found.

All are to be maximized, and take (points, dimensions). An optimum counts as found where a point's value is within the
accuracy of the optimum's height, and no better point within the function's radius has been counted.

Li, Engelbrecht, Epitropakis (2013), Benchmark Functions for CEC'2013 Special Session and Competition on Niching
Methods for Multimodal Function Optimization, RMIT University.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

RATIOS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""The competition's accuracies."""


@dataclass(frozen=True)
class Landscape:
    """A function with what is known of it."""

    name: str
    values: Callable[[Array], Array]
    low: tuple[float, ...]
    high: tuple[float, ...]
    height: float
    """Value at the global optima."""
    optima: int
    radius: float
    evaluations: int
    """The competition's budget."""

    @property
    def dimensions(self) -> int:
        """How many coordinates it has."""
        return len(self.low)


def uneven_trap(x: Array) -> Array:
    """F1: five peaks of two heights, the best ones at the ends."""
    knots = [0.0, 2.5, 5.0, 7.5, 12.5, 17.5, 22.5, 27.5, 30.0]
    return np.interp(x[:, 0], knots, [200.0, 0.0, 160.0, 0.0, 140.0, 0.0, 160.0, 0.0, 200.0])


def equal_maxima(x: Array) -> Array:
    """F2."""
    return np.asarray(np.sin(5 * np.pi * x[:, 0]) ** 6)


def uneven_decreasing(x: Array) -> Array:
    """F3."""
    fall = np.exp(-2 * np.log(2) * ((x[:, 0] - 0.08) / 0.854) ** 2)
    return np.asarray(fall * np.sin(5 * np.pi * (x[:, 0] ** 0.75 - 0.05)) ** 6)


def himmelblau(x: Array) -> Array:
    """F4."""
    return np.asarray(200 - (x[:, 0] ** 2 + x[:, 1] - 11) ** 2 - (x[:, 0] + x[:, 1] ** 2 - 7) ** 2)


def six_hump_camel(x: Array) -> Array:
    """F5."""
    a, b = x[:, 0] ** 2, x[:, 1] ** 2
    return np.asarray(-((4 - 2.1 * a + a**2 / 3) * a + x[:, 0] * x[:, 1] + (4 * b - 4) * b))


def shubert(x: Array) -> Array:
    """F6 and F8."""
    j = np.arange(1, 6)
    return np.asarray(-(j * np.cos((j + 1) * x[:, :, None] + j)).sum(2).prod(1))


def vincent(x: Array) -> Array:
    """F7 and F9."""
    return np.asarray(np.sin(10 * np.log(x)).mean(1))


def modified_rastrigin(x: Array) -> Array:
    """F10."""
    return np.asarray(-(10 + 9 * np.cos(2 * np.pi * np.array([3, 4]) * x)).sum(1))


LANDSCAPES = (
    Landscape("F1 five uneven peaks", uneven_trap, (0,), (30,), 200.0, 2, 0.01, 50_000),
    Landscape("F2 equal maxima", equal_maxima, (0,), (1,), 1.0, 5, 0.01, 50_000),
    Landscape("F3 uneven decreasing", uneven_decreasing, (0,), (1,), 1.0, 1, 0.01, 50_000),
    Landscape("F4 Himmelblau", himmelblau, (-6, -6), (6, 6), 200.0, 4, 0.01, 50_000),
    Landscape("F5 six-hump camel", six_hump_camel, (-1.9, -1.1), (1.9, 1.1), 1.031628453489877, 2, 0.5, 50_000),
    Landscape("F6 Shubert 2D", shubert, (-10,) * 2, (10,) * 2, 186.7309088310239, 18, 0.5, 200_000),
    Landscape("F7 Vincent 2D", vincent, (0.25,) * 2, (10,) * 2, 1.0, 36, 0.2, 200_000),
    Landscape("F8 Shubert 3D", shubert, (-10,) * 3, (10,) * 3, 2709.093505572820, 81, 0.5, 400_000),
    Landscape("F9 Vincent 3D", vincent, (0.25,) * 3, (10,) * 3, 1.0, 216, 0.2, 400_000),
    Landscape("F10 modified Rastrigin", modified_rastrigin, (0,) * 2, (1,) * 2, -2.0, 12, 0.01, 200_000),
)


def found(landscape: Landscape, points: Array, values: Array, accuracy: float) -> int:
    """How many global optima some points hold.

    >>> landscape = LANDSCAPES[1]
    >>> peaks = np.array([[0.1], [0.3], [0.3001], [0.5], [0.56]])
    >>> found(landscape, peaks, landscape.values(peaks), 1e-3)
    3
    """
    near = np.abs(values - landscape.height) <= accuracy
    points, values = points[near], values[near]
    points = points[np.argsort(-values, kind="stable")]
    count = 0
    while len(points) and count < landscape.optima:
        count += 1
        points = points[np.linalg.norm(points - points[0], axis=1) > landscape.radius]
    return count


class Counted:
    """A landscape that counts what it is asked, and keeps the points near the optima's height."""

    def __init__(self, landscape: Landscape) -> None:
        self.landscape = landscape
        self.asked = 0
        self._points: list[Array] = []
        self._values: list[Array] = []

    def __call__(self, points: Array) -> Array:
        """(points,) values; what lies beyond the budget is refused, for it would not be equal evaluations."""
        self.asked += len(points)
        if self.asked > self.landscape.evaluations:
            raise RuntimeError(f"{self.asked} evaluations asked of {self.landscape.evaluations}")
        values = self.landscape.values(points)
        near = np.abs(values - self.landscape.height) <= max(RATIOS)
        self._points.append(points[near])
        self._values.append(values[near])
        return values

    def ratios_of_all(self) -> dict[str, float]:
        """Accuracy: the part of the optima that any evaluated point held."""
        return ratios(self.landscape, np.vstack(self._points), np.hstack(self._values))


def ratios(landscape: Landscape, points: Array, values: Array) -> dict[str, float]:
    """Accuracy: the part of the optima that some points hold."""
    return {f"{level:g}": found(landscape, points, values, level) / landscape.optima for level in RATIOS}
