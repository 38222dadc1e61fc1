"""Settings as rows of numbers, one column a dimension, for models that learn from numbers alone.

A code is the place of a number between 0 and 1, or the index of a category's option; NaN where the branch does not have
the dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.space import Dimension, Settings, Space

Array = np.ndarray[Any, Any]

MANY = 1000
"""A range of more values than these is taken as if every number counted."""

ABSENT = 0.5
"""Where a number stands that a branch does not have."""


class Encoding:
    """The columns of a space; state: which of them exist for the options that were asked about."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.dimensions = space.dimensions
        self.places = [places(dimension) for dimension in self.dimensions]
        self.counts = np.array([0 if self._number(d) else len(d.options) for d in self.dimensions], int)
        self.numbers = np.flatnonzero(self.counts == 0)
        self.categories = np.flatnonzero(self.counts)
        self.real = np.array([found is None for found in self.places], bool)
        self.group = np.repeat(np.arange(len(self.dimensions)), np.maximum(self.counts, 1))
        self._column = {dimension.key: i for i, dimension in enumerate(self.dimensions)}
        self._options = np.array([i for i, d in enumerate(self.dimensions) if d.options], int)
        self._masks: dict[bytes, Array] = {}
        self._rows: dict[int, tuple[Settings, Array]] = {}

    @staticmethod
    def _number(dimension: Dimension) -> bool:
        return dimension.kind != "category"

    def row(self, settings: Mapping[str, Any]) -> Array:
        """(dimensions,) the code of settings."""
        found = np.full(len(self.dimensions), np.nan)
        for dimension in self.space.met(settings):
            i = self._column.get(dimension.key)
            if i is not None:
                value = settings[dimension.name]
                found[i] = dimension.options.index(value) if self.counts[i] else dimension.unit(value)
        return found

    def recall(self, number: int, settings: Settings) -> Array:
        """The code of a trial's settings, which is worked out once."""
        known = self._rows.get(number)
        if known is None or known[0] != settings:
            known = self._rows[number] = (settings, self.row(settings))
        return known[1]

    def settings(self, code: Array, draw: np.random.Generator) -> Settings:
        """The settings of a code; what it leaves open is picked at random."""

        def choose(dimension: Dimension) -> Any:
            i = self._column.get(dimension.key)
            if i is None or np.isnan(code[i]):
                return dimension.random(draw)
            return dimension.options[int(code[i])] if self.counts[i] else dimension.at(code[i])

        return self.space.answered(choose)

    def random(self, count: int, draw: np.random.Generator) -> Array:
        """(count, dimensions) full codes, every column picked evenly, whether its branch exists or not."""
        return self.spread(draw.random((count, len(self.dimensions))))

    def spread(self, units: Array) -> Array:
        """Numbers from 0 to 1 as full codes."""
        found = np.array(units, float)
        counts = self.counts[self.categories]
        found[:, self.categories] = np.minimum(np.floor(found[:, self.categories] * counts), counts - 1)
        return found

    def filled(self, codes: Array, draw: np.random.Generator) -> Array:
        """Codes with what is missing in them picked at random."""
        return np.where(np.isnan(codes), self.random(len(codes), draw), codes)

    def snapped(self, codes: Array) -> Array:
        """Full codes at the nearest values that there are, without the columns that do not exist in their branch."""
        found = np.array(codes, float)
        for i in self.numbers:
            near = self.places[i]
            found[:, i] = np.clip(found[:, i], 0, 1) if near is None else nearest(near, found[:, i])
        if self.space.conditional:
            keys = found[:, self._options]
            found[~np.array([self._mask(key) for key in keys], bool).reshape(found.shape)] = np.nan
        return found

    def features(self, codes: Array) -> Array:
        """(rows, features) the columns as a distance sees them: a category is a corner for every option.

        Two options are as far apart as the ends of a range. What does not exist stands in the middle of a range, and
        at no corner.
        """
        parts = []
        for i, count in enumerate(self.counts):
            column = codes[:, i]
            if count:
                parts.append((column[:, None] == np.arange(count)) * np.sqrt(0.5))
            else:
                parts.append(np.where(np.isnan(column), ABSENT, column)[:, None])
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(codes), 0))

    def _mask(self, key: Array) -> Array:
        """Which columns exist for a choice of all options; numbers that say how much there is are taken as large."""
        known = self._masks.get(key.tobytes())
        if known is None:
            chosen = dict(zip(self._options.tolist(), key, strict=True))
            known = np.zeros(len(self.dimensions), bool)

            def choose(dimension: Dimension) -> Any:
                i = self._column.get(dimension.key)
                if i is None:
                    return dimension.at(0.0)
                known[i] = True
                if not dimension.options:
                    return dimension.at(1.0)
                return dimension.options[int(chosen[i])] if self.counts[i] else dimension.at(chosen[i])

            self.space.answered(choose)
            self._masks[key.tobytes()] = known
        return known


def places(dimension: Dimension) -> Array | None:
    """Where the values of a dimension lie between 0 and 1; None where every number counts, or there are many."""
    if dimension.options:
        return (np.arange(len(dimension.options)) + 0.5) / len(dimension.options)
    if not dimension.stride:
        return None
    count = round((dimension.top - dimension.low) / dimension.stride) + 1
    if count > MANY:
        return None
    values = [dimension.inside(dimension.low + i * dimension.stride) for i in range(count)]
    return np.array([dimension.unit(value) for value in values])


def nearest(known: Array, wanted: Array) -> Array:
    """Of some rising numbers, those nearest to the wanted ones."""
    right = np.clip(np.searchsorted(known, wanted), 1, max(len(known) - 1, 1))
    if len(known) == 1:
        return np.full(len(wanted), known[0])
    left = known[right - 1]
    return np.where(wanted - left <= known[right] - wanted, left, known[right])
