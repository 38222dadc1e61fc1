"""Walks through the space, at first also to worse settings, later only to better ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
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
MOVED, MOST_MOVED = 2, 2 / 3
"""How many settings move on the average, and with which chance one does at the most."""
LOOKS = 64
"""Random settings that tell how many there are to move."""
INNER = 200
"""Proposals that are known already, and so decided at once, before a chain starts elsewhere."""


class Anneal(Sampler):
    """Simulated annealing: Metropolis-Hastings over settings, at a temperature that falls.

    A chain proposes settings near where it stands, and goes there where they are as good or better, or with a chance
    that falls with how much worse they are against the temperature. The temperature starts at the scale of the losses
    seen, and the step adapts until the wanted part of proposals of numbers is accepted. What was tried before is
    decided at once, without another trial; a chain that meets nothing new for long starts elsewhere. Every worker has a
    chain of its own. Where a chain stands, its step, its temperature and its chance are kept with each trial:
    `chain.statistics` reads them.

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

        chance = _chance(space)

        def pick(history: History, seed: int) -> Suggestion:
            draw = np.random.default_rng(seed)
            number, chain = _free(history)
            standing = scores(history)
            value = {one.number: float(found) for one, found in zip(history, standing, strict=True)}
            by_number = {one.number: one for one in history}
            went = None
            if chain:
                last = chain[-1]
                went = accepted(last, value)
                parent = last if went else by_number[last.memo[KEY]["parent"]]
                at, step = int(last.memo[KEY]["at"]) + 1, self._adapted(last.memo[KEY], went)
            else:
                start = next((one for one in _ranked(history, value) if number == 0), None)
                if start is None:
                    return _start(space, number, self.step, draw, {})
                parent, at, step = start, 1, self.step
            known = {space.key(one.settings): one for one in history if not math.isnan(value[one.number])}
            inner: list[tuple[int, bool | None]] = []
            heat = self.heat * _scale(standing) * self.cooling ** (at - 1)
            for _ in range(INNER):
                found, numbers = _proposal(space, parent.settings, chance, step, draw)
                if space.key(found) == space.key(parent.settings):
                    inner.append((parent.number, None))
                    continue
                memo = {
                    "chain": number,
                    "parent": parent.number,
                    "at": at,
                    "step": step,
                    "numbers": numbers,
                    "temperature": heat,
                    "u": float(draw.random()),
                    "went": went,
                    "inner": inner,
                }
                met = known.get(space.key(found))
                if met is None:
                    return Suggestion(found, {KEY: memo})
                goes = accepted(msgspec.structs.replace(met, memo={KEY: memo}), value)
                parent, at, step = met if goes else parent, at + 1, self._adapted(memo, goes)
                heat *= self.cooling
                inner.append((parent.number, goes))
            return _start(space, number, self.step, draw, {"went": went, "inner": inner, "temperature": heat})

        return pick

    def _adapted(self, memo: Mapping[str, Any], went: bool) -> float:
        """The step after a proposal that moved numbers: longer if too many are accepted; by less and less."""
        if memo["parent"] is None or not memo.get("numbers", True):
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


def _start(space: Space, chain: int, step: float, draw: np.random.Generator, before: Mapping[str, Any]) -> Suggestion:
    """The first state of a chain, or of one that found nothing new where it stood; before: how it came to that."""
    memo = {"chain": chain, "parent": None, "at": 0, "step": step, "temperature": 0.0, "u": 0.0, **before}
    return Suggestion(space.random(draw), {KEY: memo})


def _chance(space: Space) -> float:
    """With which chance a setting moves: such that some MOVED do, and the same wherever a chain stands.

    Were it larger where a branch has fewer settings, chains would leave that branch oftener than they come to it.
    """
    draw = np.random.default_rng(0)
    found = [sum(map(movable, space.met(space.random(draw)))) for _ in range(LOOKS)]
    return min(MOVED / max(float(np.mean(found)), 1.0), MOST_MOVED)


def _proposal(
    space: Space, settings: Settings, chance: float, step: float, draw: np.random.Generator
) -> tuple[Settings, bool]:
    """Settings about a step away, as likely as the way back, and whether a number moved. It may be that none moves:
    to propose until one does would make it likelier to leave a place at an end of a range than to come there."""
    chosen = [one for one in space.met(settings) if movable(one) and draw.random() < chance]
    changed = {one.name: _moved(one, settings[one.name], step, draw) for one in chosen}
    numbers = any(one.kind != "category" and changed[one.name] != settings[one.name] for one in chosen)
    return space.complete({**settings, **changed}, draw), numbers


def _moved(dimension: Dimension, value: Any, step: float, draw: np.random.Generator) -> Any:
    """A value by a symmetric step: any other category, else a number, thrown back at the ends of its range."""
    if dimension.kind == "category":
        others = [option for option in dimension.options if option != value]
        return others[draw.integers(len(others))]
    least = 0.7 / len(dimension.options) if dimension.options else 0.0
    if dimension.stride:
        least = 0.7 * dimension.stride / max(dimension.top - dimension.low + dimension.stride, 1e-12)
    place = (dimension.unit(value) + max(step, least) * draw.standard_normal()) % 2
    return dimension.at(min(place, 2 - place))
