"""Learns the shape of the region where good settings lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Past, Suggestion
from modelmill.search.past import order
from modelmill.search.population.cloud import Cloud, cloud, learn, rates, sample, with_margin
from modelmill.search.population.mixed import movable
from modelmill.search.population.replay import Replay
from modelmill.search.population.verdict import judged
from modelmill.space import Dimension, Settings, Space

Array = np.ndarray[Any, Any]

KEY = "cmaes"


class Cmaes(Sampler):
    """Follows slopes and valleys that lie askew to the settings; best where most settings are numbers.

    Numbers are drawn from a normal distribution whose mean, width and covariance follow the better half of every
    generation; those with steps keep a chance to leave their value. Each category has chances of its own, which follow
    the same trials. A setting that a branch does not have goes along unjudged. A generation is whatever trials ended
    next: late ones, and those that others suggested, are brought as near as a draw would lie. When a run has become
    narrow or has stalled, another one starts elsewhere, with a larger population or (bipop) by turns with small ones.

    Hansen (2016), https://arxiv.org/abs/1604.00772; restarts Hansen (2009), https://doi.org/10.1145/1570256.1570333;
    steps Hamano et al. (2022), https://arxiv.org/abs/2205.13482; categories after Hamano et al. (2024),
    https://arxiv.org/abs/2405.09962
    """

    population: Annotated[int, Meta(ge=0)] = 0
    """Trials of a generation; 0: four, and three times the logarithm of how many settings there are."""
    width: Annotated[float, Meta(gt=0, le=1)] = 0.2
    """The standard deviation that the first run starts with, as a part of each range."""
    restart: Literal["bipop", "ipop", "none"] = "bipop"
    """Whether further runs are large and small by turns, ever larger, or not made."""
    precision: Annotated[float, Meta(gt=0, lt=1)] = 1e-6
    """The part of a range below which differences do not count: a run that is as narrow has ended."""

    def __call__(self, space: Space) -> Pick:
        """Picks from the distribution that the trials so far have led to."""
        axes = Axes(space)
        replay = Replay(lambda: Run(chances=axes.even), lambda run, one: self._step(axes, run, one))

        def pick(history: History, seed: int) -> Suggestion | None:
            run, draw = replay(history), np.random.default_rng(seed)
            start = run.start or self._start(axes, run, history, draw)
            run = run if run.start else _begin(run, start)
            point = sample(run.cloud, draw) if run.cloud is not None else np.zeros(0)
            settings = axes.settings(space, point, run.chances, draw)
            generation = run.cloud.generation if run.cloud is not None else 0
            memo = {"run": run.number, "generation": generation, "at": point.tolist(), "start": start}
            return Suggestion(settings, {KEY: memo})

        return pick

    def _start(self, axes: Axes, run: Run, history: History, draw: np.random.Generator) -> dict[str, Any]:
        """Where the next run starts, how wide and with how many: the first at the best known, others anywhere."""
        n = len(axes.numbers)
        first = self.population or 4 + int(3 * math.log(max(n + len(axes.categories), 1)))
        first = max(first, 4)
        large = first * 2**run.larges
        if run.number == 0 or self.restart == "ipop" or run.spent_large <= run.spent_small:
            mean = draw.random(n).tolist() if run.number else axes.best(history).tolist()
            return {"mean": mean, "width": self.width, "population": large, "small": False}
        u = draw.random()
        few = max(int(first * (large / first / 2) ** (u * u)), 4)
        return {"mean": draw.random(n).tolist(), "width": self.width * 10 ** (-2 * u), "population": few, "small": True}

    def _step(self, axes: Axes, run: Run, one: Past) -> Run:
        """Take in one trial: it may begin a run, complete a generation or end a run."""
        memo = one.memo.get(KEY, {})
        if not run.start and memo.get("run") == run.number:
            run = _begin(run, memo["start"])
        if not judged(one) or not run.start:
            return run
        run = replace(run, pool=(*run.pool, one))
        if len(run.pool) < run.start["population"]:
            return run
        run = _generation(axes, run)
        if self.restart == "none" or not _over(axes, run, self.precision):
            return run
        spent = run.generations * run.start["population"]
        small = run.start["small"]
        return Run(
            chances=axes.even,
            number=run.number + 1,
            larges=run.larges + (not small),
            spent_small=run.spent_small + spent * small,
            spent_large=run.spent_large + spent * (not small),
        )


class Axes:
    """The dimensions of all branches as coordinates: numbers between 0 and 1, and categories."""

    def __init__(self, space: Space) -> None:
        self.dimensions = [dimension for dimension in space.dimensions if movable(dimension)]
        self.numbers = [dimension for dimension in self.dimensions if dimension.kind != "category"]
        self.categories = [dimension for dimension in self.dimensions if dimension.kind == "category"]
        self.number = {dimension.key: i for i, dimension in enumerate(self.numbers)}
        self.category = {dimension.key: i for i, dimension in enumerate(self.categories)}
        self.even = tuple(np.full(len(one.options), 1 / len(one.options)) for one in self.categories)
        self.smooth = np.array([not one.stride and not one.options for one in self.numbers], dtype=bool)
        self._met = space.met

    def settings(self, space: Space, point: Array, chances: tuple[Array, ...], draw: np.random.Generator) -> Settings:
        """The settings at a point, categories drawn."""
        drawn = [one.options[draw.choice(len(p), p=p)] for one, p in zip(self.categories, chances, strict=True)]

        def choose(dimension: Dimension) -> Any:
            if dimension.key in self.number:
                return dimension.at(point[self.number[dimension.key]])
            if dimension.key in self.category:
                return drawn[self.category[dimension.key]]
            return dimension.at(0.5)

        return space.answered(choose)

    def read(self, settings: Settings, start: Array) -> tuple[Array, dict[int, int]]:
        """The point of settings, those that are not met as in `start`, and the options met by category."""
        point, picked = start.copy(), dict[int, int]()
        for dimension in self._met(settings):
            value = settings[dimension.name]
            if dimension.key in self.number:
                point[self.number[dimension.key]] = dimension.unit(value)
            elif dimension.key in self.category:
                picked[self.category[dimension.key]] = dimension.options.index(value)
        return point, picked

    def best(self, history: History) -> Array:
        """The point of the best trial so far; the middle where there is none."""
        middle = np.full(len(self.numbers), 0.5)
        ranked = order(history)
        return self.read(ranked[0].settings, middle)[0] if ranked and ranked[0].scored else middle

    def cells(self, mean: Array) -> Array:
        """(numbers, 2), the bounds between which the value stays the same; NaN where every number counts."""
        return np.array([_cell(one, unit) for one, unit in zip(self.numbers, mean, strict=True)]).reshape(-1, 2)


def _cell(dimension: Dimension, unit: float) -> tuple[float, float]:
    if dimension.options:
        count = len(dimension.options)
        place = min(int(unit * count), count - 1)
        low, high = place / count, (place + 1) / count
        first, last = place == 0, place == count - 1
    elif dimension.stride:
        value, half = dimension.at(unit), dimension.stride / 2
        first, last = value <= dimension.low, value >= dimension.top
        low = 0.0 if first else dimension.unit(value - half)
        high = 1.0 if last else dimension.unit(value + half)
    else:
        return math.nan, math.nan
    return (-math.inf if first else low), (math.inf if last else high)


@dataclass(frozen=True, eq=False)
class Run:
    """Where the algorithm stands: one run of it, and what those before have cost."""

    chances: tuple[Array, ...]
    """For every category, how likely each option is."""
    number: int = 0
    start: Mapping[str, Any] = field(default_factory=dict)
    """What the run's first trial wrote down; empty until there is one."""
    cloud: Cloud | None = None
    pool: tuple[Past, ...] = ()
    """Trials of the generation that is under way."""
    generations: int = 0
    tops: tuple[tuple[float, ...], ...] = ()
    """The losses of the best of the latest generations."""
    larges: int = 0
    spent_small: int = 0
    spent_large: int = 0


def _begin(run: Run, start: Mapping[str, Any]) -> Run:
    return replace(run, start=start, cloud=cloud(np.array(start["mean"]), start["width"]) if start["mean"] else None)


def _generation(axes: Axes, run: Run) -> Run:
    """Learn from a full pool."""
    ranked = order(run.pool)
    top = ranked[0].losses if ranked[0].scored else (math.inf,)
    points, picks, foreign = [], [], []
    for one in ranked:
        memo = one.memo.get(KEY, {})
        own = memo.get("run") == run.number
        generation = run.cloud.generation if run.cloud is not None else 0
        base = run.cloud.mean if run.cloud is not None else np.zeros(0)
        point, picked = axes.read(one.settings, base)
        points.append(np.array(memo["at"]) if own else point)
        picks.append(picked)
        foreign.append(not own or memo["generation"] != generation)
    margin = 1 / (len(ranked) * max(len(axes.dimensions), 1))
    found = run.cloud
    if found is not None:
        found = learn(found, np.array(points), np.array(foreign))
        found = with_margin(found, axes.cells(found.mean), margin)
    chances = tuple(_chances(p, [picked.get(i) for picked in picks], margin) for i, p in enumerate(run.chances))
    keep = 10 + math.ceil(30 * max(len(axes.numbers), 1) / len(ranked))
    tops = (*run.tops, top)[-keep:]
    return replace(run, cloud=found, chances=chances, pool=(), generations=run.generations + 1, tops=tops)


def _chances(chances: Array, picked: list[int | None], margin: float) -> Array:
    """Chances moved towards the options that the better trials have, where they have the setting; none becomes 0."""
    rate = rates(len(chances), len(picked))
    weights = np.maximum(rate.weights, 0)
    seen = [(weight, option) for weight, option in zip(weights, picked, strict=True) if option is not None]
    total = sum(weight for weight, _ in seen)
    if total <= 0:
        return chances
    aim = np.zeros(len(chances))
    for weight, option in seen:
        aim[option] += weight / total
    speed = total * rate.mass / (rate.mass + 2 * len(chances))
    floor = margin / (len(chances) - 1)
    moved = np.maximum((1 - speed) * chances + speed * aim, floor)
    above = moved - floor
    return np.asarray(floor + above * (1 - floor * len(chances)) / above.sum())


def _over(axes: Axes, run: Run, precision: float) -> bool:
    """Whether a run has become narrow, or its latest generations brought nothing."""
    keep = 10 + math.ceil(30 * max(len(axes.numbers), 1) / run.start["population"])
    if run.cloud is not None and axes.smooth.any():
        narrow = np.all(run.cloud.spread[axes.smooth] < precision)
        lengths = run.cloud.lengths
        if narrow or lengths.max() > 1e7 * lengths.min():
            return True
    return len(run.tops) >= keep and len(set(run.tops)) == 1
