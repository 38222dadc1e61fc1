"""What a search may choose: the dimensions that are met on a walk through a spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec


class Dimension(msgspec.Struct, frozen=True):
    """One choice: a range of numbers, or options by their labels; `name` is its path in the spec."""

    name: str
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    integer: bool = False
    options: tuple[Any, ...] = ()
    """Labels: strings, numbers or booleans; empty for a range of numbers."""
    default: Any = None
    """A setting that is known to be sensible: the first trial of a branch takes it."""


Choose = Callable[[Dimension], Any]
"""Answers a dimension with a number in its range, or one of its labels."""

Walk = Callable[[Choose], Any]
"""A walk through a space: asks `choose` at every dimension that exists given the answers so far."""


def grid(dimension: Dimension, points: int = 5) -> list[Any]:
    """The values of a dimension on a grid: every option or step, else `points` values, ends included.

    >>> grid(Dimension("ratio", low=0.0, high=1.0), points=3)
    [0.0, 0.5, 1.0]
    """
    if dimension.options:
        return list(dimension.options)
    low, high = dimension.low, dimension.high
    if dimension.step:
        count = int((high - low) / dimension.step + 1e-9) + 1
        values = [low + i * dimension.step for i in range(count)]
    elif dimension.log:
        values = [low * (high / low) ** (i / max(points - 1, 1)) for i in range(points)]
    else:
        values = [low + (high - low) * i / max(points - 1, 1) for i in range(points)]
    if dimension.integer:
        return sorted({round(value) for value in values})
    return sorted(set(values))


def cells(walk: Walk, points: int = 5) -> Iterator[dict[str, Any]]:
    """Every cell of the grid over a space, branch by branch, each once: dimension name to value.

    The space is known only by walking it, so each cell replays the answers of the last one up to the last choice that
    has a value left.
    """
    trail: list[tuple[str, list[Any], int]] = []
    while True:
        cell: dict[str, Any] = {}
        depth = 0

        def choose(dimension: Dimension, cell: dict[str, Any] = cell) -> Any:
            nonlocal depth
            if depth == len(trail):
                trail.append((dimension.name, grid(dimension, points), 0))
            _, values, index = trail[depth]
            depth += 1
            cell[dimension.name] = values[index]
            return values[index]

        walk(choose)
        del trail[depth:]
        yield cell
        while trail and trail[-1][2] + 1 == len(trail[-1][1]):
            trail.pop()
        if not trail:
            return
        name, values, index = trail[-1]
        trail[-1] = (name, values, index + 1)
