"""Walks through the space, at first also to worse settings, later only to better ones."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Past, Suggestion
from modelmill.search.chain import KEY, accepted, chains
from modelmill.search.past import scores
from modelmill.search.population.mixed import movable
from modelmill.space import Dimension, Settings, Space

Array = np.ndarray[Any, Any]

WIDEST, NARROWEST = 0.5, 1e-4


class Anneal(Sampler):
    """Simulated annealing: Metropolis-Hastings over settings, at a temperature that falls.

    A chain proposes settings near where it stands, and goes there where they are as good or better, or with a chance
    that falls with how much worse they are against the temperature. The temperature starts at the scale of the losses
    seen, and the step adapts until the wanted part of proposals is accepted. Every worker has a chain of its own. Where
    a chain stands, its step, its temperature and its chance are kept with each trial: `chain.statistics` reads them.

    Kirkpatrick, Gelatt, Vecchi (1983), https://doi.org/10.1126/science.220.4598.671; Hastings (1970),
    https://doi.org/10.1093/biomet/57.1.97; the step after Robbins, Monro (1951)
    """

    heat: Annotated[float, Meta(gt=0)] = 0.5
    """The first temperature, in units of the middle distance of losses from the best."""
    cooling: Annotated[float, Meta(gt=0, le=1)] = 0.95
    """By which factor the temperature of a chain falls with every proposal; 1 keeps it, for the chain's statistics."""
    step: Annotated[float, Meta(gt=0, le=0.5)] = 0.2
    """The first step of numbers, as a part of their range."""
    acceptance: Annotated[float, Meta(gt=0, lt=1)] = 0.3
    """The part of proposals that should be accepted."""

    def __call__(self, space: Space) -> Pick:
        """Picks the next proposal of a chain of which no trial runs."""

        def pick(history: History, seed: int) -> Suggestion:
            draw = np.random.default_rng(seed)
            number, chain = _free(history)
            standing = scores(history)
            value = {one.number: float(found) for one, found in zip(history, standing, strict=True)}
            by_number = {one.number: one for one in history}
            if not chain:
                start = next((one for one in _ranked(history, value) if number == 0), None)
                if start is None:
                    memo = {"chain": number, "parent": None, "at": 0, "step": self.step, "temperature": 0.0, "u": 0.0}
                    return Suggestion(space.random(draw), {KEY: memo})
                parent, at, step = start, 1, self.step
            else:
                last = chain[-1]
                went = accepted(last, value)
                parent = last if went else by_number[last.memo[KEY]["parent"]]
                at = int(last.memo[KEY]["at"]) + 1
                step = self._adapted(last, went)
            memo = {
                "chain": number,
                "parent": parent.number,
                "at": at,
                "step": step,
                "temperature": self.heat * _scale(standing) * self.cooling ** (at - 1),
                "u": float(draw.random()),
            }
            return Suggestion(_proposal(space, parent.settings, step, draw), {KEY: memo})

        return pick

    def _adapted(self, last: Past, went: bool) -> float:
        """The step after a proposal: longer if too many are accepted; by less and less."""
        memo = last.memo[KEY]
        if memo["parent"] is None:
            return float(memo["step"])
        gain = 2.0 / math.sqrt(max(int(memo["at"]), 1))
        step = float(memo["step"]) * math.exp(gain * (float(went) - self.acceptance))
        return min(max(step, NARROWEST), WIDEST)


def _free(history: History) -> tuple[int, list[Past]]:
    """The shortest chain of which no trial runs, and its trials; else a new one."""
    known = chains(history)
    free = [number for number, chain in known.items() if all(one.state != "running" for one in chain)]
    if free:
        number = min(free, key=lambda number: (len(known[number]), number))
        return number, known[number]
    return max(known, default=-1) + 1, []


def _ranked(history: History, value: dict[int, float]) -> list[Past]:
    """The trials with a score, best first."""
    return sorted((one for one in history if not math.isnan(value[one.number])), key=lambda one: value[one.number])


def _scale(standing: Array) -> float:
    """The middle distance of scores from the best one."""
    known = standing[np.isfinite(standing)]
    return float(np.median(known - known.min())) if len(known) else 1.0


def _proposal(space: Space, settings: Settings, step: float, draw: np.random.Generator) -> Settings:
    """Settings about a step away; as likely as the way back. Some settings move, one at the least."""
    free = [dimension for dimension in space.met(settings) if movable(dimension)]
    if not free:
        return space.complete(settings, draw)
    moved = draw.random(len(free)) < 2 / len(free)
    moved[draw.integers(len(free))] = True
    changed = {d.name: _moved(d, settings[d.name], step, draw) for d, moves in zip(free, moved, strict=True) if moves}
    return space.complete({**settings, **changed}, draw)


def _moved(dimension: Dimension, value: Any, step: float, draw: np.random.Generator) -> Any:
    """A value by a symmetric step: any other category, else a number, thrown back at the ends of its range."""
    if dimension.kind == "category":
        others = [option for option in dimension.options if option != value]
        return others[draw.integers(len(others))]
    least = 0.7 / len(dimension.options) if dimension.options else 0.0
    if dimension.stride:
        least = 0.7 * dimension.stride / max(dimension.top - dimension.low + dimension.stride, 1e-12)
    unit = dimension.unit(value)
    found = value
    for _ in range(20):
        place = abs(unit + max(step, least) * draw.standard_normal())
        found = dimension.at(1 - abs(1 - place))
        if found != value:
            break
    return found
