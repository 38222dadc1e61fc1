"""What a search may choose: the dimensions that are met on a walk through a spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np

Settings = dict[str, Any]
"""Path of a setting in the spec: the value picked."""

Kind = Literal["real", "integer", "ordered", "category"]
"""What the values of a dimension are; options that are all numbers are ordered."""


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
    differentiable: bool = False
    """Whether what is trained can say how its loss changes with this setting."""
    late: bool = False
    """Whether it comes after training: candidates that differ in such settings alone share a training."""

    @property
    def key(self) -> str:
        """What tells it from the dimensions of the same name on other branches."""
        if self.options:
            return f"{self.name} {list(self.options)}"
        return f"{self.name} {self.low}..{self.high}/{self.step}{' log' if self.log else ''}"

    @property
    def kind(self) -> Kind:
        """What its values are."""
        if not self.options:
            return "integer" if self.integer else "real"
        numbers = all(isinstance(option, int | float) and not isinstance(option, bool) for option in self.options)
        return "ordered" if numbers and len(self.options) > 1 else "category"

    @property
    def stride(self) -> float | None:
        """The distance of neighbouring values; None where every number between the ends counts.

        A logarithmic range has no steps but whole numbers.
        """
        if self.integer:
            return 1 if self.log else int(self.step or 1)
        return None if self.log else self.step

    @property
    def top(self) -> float:
        """The largest value of a range: steps may end before `high`."""
        if not self.stride:
            return self.high
        return self.low + math.floor((self.high - self.low) / self.stride + 1e-9) * self.stride

    def inside(self, wanted: float) -> Any:
        """The value of a range that is nearest to a number."""
        near = min(max(wanted, self.low), self.top)
        if self.stride:
            near = min(self.low + round((near - self.low) / self.stride) * self.stride, self.top)
        return int(near) if self.integer else float(near)

    def at(self, unit: float) -> Any:
        """The value at a place between 0 and 1: evenly in the range, in its logarithm, or over the options.

        >>> Dimension("rate", low=1, high=4, log=True).at(0.5), Dimension("head", options=("a", "b")).at(0.7)
        (2.0, 'b')
        """
        unit = min(max(float(unit), 0.0), 1.0)
        if self.options:
            values = self.ranked
            return values[min(int(unit * len(values)), len(values) - 1)]
        pad = self.stride / 2 if self.stride else 0.0
        low, high = self.low - pad, self.top + pad
        if self.log:
            low = low if low > 0 else self.low / 2
            return self.inside(math.exp(math.log(low) + unit * (math.log(high) - math.log(low))))
        return self.inside(low + unit * (high - low))

    def unit(self, value: Any) -> float:
        """The place of a value between 0 and 1, so that `at` gives the value back.

        >>> Dimension("width", low=1, high=4, integer=True).unit(1)
        0.125
        """
        if self.options:
            return (self.ranked.index(value) + 0.5) / len(self.options)
        pad = self.stride / 2 if self.stride else 0.0
        low, high = self.low - pad, self.top + pad
        if self.log:
            low = math.log(low if low > 0 else self.low / 2)
            return (math.log(value) - low) / max(math.log(high) - low, 1e-12)
        return float((value - low) / max(high - low, 1e-12))

    @property
    def ranked(self) -> tuple[Any, ...]:
        """The options, numbers in their order."""
        return tuple(sorted(self.options)) if self.kind == "ordered" else self.options

    def distance(self, one: Any, two: Any) -> float:
        """How far apart two values are, from 0 to 1 (Gower, 1971): categories are equal or not."""
        return float(one != two) if self.kind == "category" else abs(self.unit(one) - self.unit(two))

    def random(self, random: np.random.Generator) -> Any:
        """A value picked evenly."""
        return self.at(random.random())


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
    return sorted({min(value, high) for value in values})


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


Same = Callable[[Settings], Any]
"""What two settings share that make the same candidate, as JSON values; for most spaces the settings themselves."""


def themselves(settings: Settings) -> Settings:
    """Settings that differ make candidates that differ."""
    return settings


class Space:
    """A space of settings, known by walking through it; nothing in it changes.

    >>> def walk(choose):
    ...     if choose(Dimension("arch", options=("line", "net"))) == "net":
    ...         choose(Dimension("width", low=1, high=8, integer=True))
    >>> space = Space(walk)
    >>> [dimension.name for dimension in space.dimensions], space.conditional
    (['arch', 'width'], True)
    >>> space.complete({"arch": "net", "width": 3}, np.random.default_rng(0))
    {'arch': 'net', 'width': 3}
    """

    def __init__(self, walk: Walk, same: Same = themselves) -> None:
        self.walk = walk
        self.same = same
        self._keys: dict[bytes, bytes] = {}

    def key(self, settings: Mapping[str, Any]) -> bytes:
        """What tells a candidate from others: settings that make the same candidate have the same key."""
        plain = msgspec.json.encode(settings, order="sorted")
        if self.same is themselves:
            return plain
        if plain not in self._keys:
            self._keys[plain] = msgspec.json.encode(self.same(dict(settings)), order="sorted")
        return self._keys[plain]

    def answered(self, choose: Choose) -> Settings:
        """The settings that come of answering every dimension once."""
        settings: Settings = {}

        def once(dimension: Dimension) -> Any:
            if dimension.name not in settings:
                settings[dimension.name] = choose(dimension)
            return settings[dimension.name]

        self.walk(once)
        return settings

    def random(self, random: np.random.Generator) -> Settings:
        """Settings picked evenly, dimension by dimension."""
        return self.answered(lambda dimension: dimension.random(random))

    def complete(self, partial: Mapping[str, Any], random: np.random.Generator) -> Settings:
        """The given values where the walk meets them and they lie inside; all others are picked at random."""

        def choose(dimension: Dimension) -> Any:
            if dimension.name not in partial:
                return dimension.random(random)
            value = partial[dimension.name]
            if dimension.options:
                return value if value in dimension.options else dimension.random(random)
            return dimension.inside(value) if isinstance(value, int | float) else dimension.random(random)

        return self.answered(choose)

    def met(self, settings: Mapping[str, Any]) -> list[Dimension]:
        """The dimensions that exist with these settings, in the order of the walk."""
        found: dict[str, Dimension] = {}

        def choose(dimension: Dimension) -> Any:
            found[dimension.name] = dimension
            return settings[dimension.name]

        self.walk(choose)
        return list(found.values())

    def distance(self, one: Mapping[str, Any], two: Mapping[str, Any]) -> float:
        """How far apart two settings are, from 0 to 1: the mean over the dimensions that either has (Gower, 1971)."""
        sides = [{dimension.key: dimension for dimension in self.met(settings)} for settings in (one, two)]
        every = {**sides[0], **sides[1]}
        if not every:
            return 0.0
        total = sum(
            dimension.distance(one[dimension.name], two[dimension.name]) if key in sides[0] and key in sides[1] else 1.0
            for key, dimension in every.items()
        )
        return total / len(every)

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Every dimension that is met on some branch, in the order of discovery."""
        return tuple(self._explored[0])

    @cached_property
    def always(self) -> frozenset[str]:
        """The keys of the dimensions that every branch has."""
        return self._explored[1]

    @property
    def conditional(self) -> bool:
        """Whether some dimension exists only on some branches."""
        return len(self.always) < len(self.dimensions)

    @cached_property
    def _explored(self) -> tuple[list[Dimension], frozenset[str]]:
        """Every option is taken once, on a walk where its dimension was first met."""
        found: dict[str, Dimension] = {}
        always: frozenset[str] | None = None
        ahead: list[Settings] = [{}]
        asked: set[tuple[str, Any]] = set()
        while ahead:
            forced = ahead.pop()

            def choose(dimension: Dimension, forced: Settings = forced) -> Any:
                return forced.get(dimension.key, (dimension.options or (dimension.low,))[0])

            met: dict[str, Dimension] = {}

            def note(dimension: Dimension, met: dict[str, Dimension] = met, choose: Choose = choose) -> Any:
                met[dimension.key] = dimension
                return choose(dimension)

            self.walk(note)
            always = frozenset(met) if always is None else always & frozenset(met)
            for key, dimension in met.items():
                found.setdefault(key, dimension)
                for option in dimension.options:
                    if (key, option) not in asked:
                        asked.add((key, option))
                        ahead.append({**forced, key: option})
        return list(found.values()), always or frozenset()
