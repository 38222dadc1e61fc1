"""Children of settings: recombination and mutation where numbers, steps, ordered values and categories are mixed.

What a child lacks on its branch is picked at random, and what its branch does not have is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.space import Dimension, Settings, Space


def child(
    space: Space, one: Mapping[str, Any], two: Mapping[str, Any], draw: np.random.Generator, eta: float
) -> Settings:
    """Settings between those of two parents, and a little beyond.

    Numbers are blended by simulated binary crossover, or taken from one parent like all else; what only one parent
    has comes from it. `eta`: the larger, the nearer to a parent.

    Deb, Agrawal (1995), https://www.complex-systems.com/abstracts/v09_i02_a02/
    """
    sides = [{dimension.name: dimension for dimension in space.met(parent)} for parent in (one, two)]
    mix: Settings = {}
    for name in [*sides[0], *(name for name in sides[1] if name not in sides[0])]:
        first = name in sides[0] and (name not in sides[1] or draw.random() < 0.5)
        mix[name] = (one if first else two)[name]
        both = name in sides[0] and name in sides[1] and sides[0][name].key == sides[1][name].key
        if both and sides[0][name].kind != "category" and draw.random() < 0.5:
            dimension = sides[0][name]
            near, far = (one, two) if first else (two, one)
            mix[name] = dimension.at(blend(dimension.unit(near[name]), dimension.unit(far[name]), draw, eta))
    return space.complete(mix, draw)


def blend(near: float, far: float, draw: np.random.Generator, eta: float) -> float:
    """A number on the near parent's side by simulated binary crossover."""
    u = draw.random()
    spread = (2 * u) ** (1 / (eta + 1)) if u <= 0.5 else (1 / (2 * (1 - u))) ** (1 / (eta + 1))
    return float(np.clip(0.5 * ((1 + spread) * near + (1 - spread) * far), 0.0, 1.0))


def mutant(space: Space, settings: Mapping[str, Any], draw: np.random.Generator, rate: float, eta: float) -> Settings:
    """The settings with each value moved with a chance, at least one of them.

    `rate`: how many values move on average. `eta`: the larger, the smaller the moves.
    """
    met = [dimension for dimension in space.met(settings) if movable(dimension)]
    if not met:
        return space.complete(settings, draw)
    moves = draw.random(len(met)) < rate / len(met)
    if not moves.any():
        moves[draw.integers(len(met))] = True
    moved = {d.name: move(d, settings[d.name], draw, eta) for d, moves_it in zip(met, moves, strict=True) if moves_it}
    return space.complete({**settings, **moved}, draw)


def movable(dimension: Dimension) -> bool:
    """Whether a dimension has more than one value."""
    return len(dimension.options) > 1 if dimension.options else dimension.top > dimension.low


def move(dimension: Dimension, value: Any, draw: np.random.Generator, eta: float) -> Any:
    """Another value: of categories any, of numbers one near by, by polynomial mutation.

    Deb, Goyal (1996), A combined genetic adaptive search (GeneAS) for engineering design
    """
    if dimension.kind == "category":
        others = [option for option in dimension.options if option != value]
        return others[draw.integers(len(others))]
    unit = dimension.unit(value)
    for _ in range(8):
        found = dimension.at(_polynomial(unit, draw.random(), eta))
        if abs(dimension.unit(found) - unit) > 1e-9:
            return found
    return neighbour(dimension, value, draw)


def neighbour(dimension: Dimension, value: Any, draw: np.random.Generator) -> Any:
    """The next number up or down; any where there are no steps.

    >>> neighbour(Dimension("width", low=1, high=8, integer=True), 8, np.random.default_rng(0))
    7
    """
    way = 1 if draw.random() < 0.5 else -1
    if dimension.options:
        place, last = dimension.ranked.index(value), len(dimension.ranked) - 1
        return dimension.ranked[place + way if 0 <= place + way <= last else place - way]
    if not dimension.stride:
        return dimension.random(draw)
    found = dimension.inside(value + way * dimension.stride)
    return found if abs(found - value) > 1e-9 else dimension.inside(value - way * dimension.stride)


def _polynomial(unit: float, u: float, eta: float) -> float:
    """A place near `unit`, within 0 and 1, for a number u between 0 and 1."""
    if u < 0.5:
        return float(unit + (2 * u + (1 - 2 * u) * (1 - unit) ** (eta + 1)) ** (1 / (eta + 1)) - 1)
    return float(unit + 1 - (2 * (1 - u) + 2 * (u - 0.5) * unit ** (eta + 1)) ** (1 / (eta + 1)))
