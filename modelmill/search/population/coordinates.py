"""Settings as points: one coordinate between 0 and 1 for every dimension of any branch, NaN where it is not met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.search.population.mixed import movable
from modelmill.space import Dimension, Settings, Space

Array = np.ndarray[Any, Any]


class Coordinates:
    """What coordinate stands for which dimension of a space; nothing in it changes.

    >>> from modelmill.space import Dimension
    >>> space = Space(lambda choose: choose(Dimension("share", low=0.0, high=2.0)))
    >>> coordinates = Coordinates(space)
    >>> coordinates.settings(np.array([0.25]), np.random.default_rng(0)), coordinates.point({"share": 0.5})
    ({'share': 0.5}, array([0.25]))
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.dimensions = [dimension for dimension in space.dimensions if movable(dimension)]
        self._place = {dimension.key: i for i, dimension in enumerate(self.dimensions)}
        self.category = np.array([dimension.kind == "category" for dimension in self.dimensions], dtype=bool)
        self.grain = np.array([grain(dimension) for dimension in self.dimensions])

    def settings(self, point: Array, draw: np.random.Generator) -> Settings:
        """The settings at a point; what they need and the point leaves open is picked at random."""

        def choose(dimension: Dimension) -> Any:
            place = self._place.get(dimension.key)
            if place is None:
                return dimension.at(0.5)
            return dimension.random(draw) if np.isnan(point[place]) else dimension.at(point[place])

        return self.space.answered(choose)

    def point(self, settings: Mapping[str, Any]) -> Array:
        """(dimensions,) the point of settings."""
        found = np.full(len(self.dimensions), np.nan)
        for dimension in self.space.met(settings):
            if dimension.key in self._place:
                found[self._place[dimension.key]] = dimension.unit(settings[dimension.name])
        return found


def grain(dimension: Dimension) -> float:
    """How far apart neighbouring values lie on average; 0 where every number counts."""
    if dimension.options:
        return 1 / len(dimension.options)
    return dimension.stride / (dimension.top - dimension.low + dimension.stride) if dimension.stride else 0.0
