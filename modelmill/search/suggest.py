"""Asks a sampler for the next candidate: keeps the history as Optuna's samplers want to see it.

A suggestion depends on the history and on a seed of its own, not on how the history came about: a resumed search goes
on as the uninterrupted one would have.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modelmill.contracts import Sampler
from modelmill.search.pareto import value, violation
from modelmill.search.seeds import derive
from modelmill.space import Dimension, Walk
from modelmill.spec import Goal
from modelmill.trial import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Settings = dict[str, Any]

AGAIN = 4
"""How often the sampler is asked again where it suggests what was tried."""

RANDOM = 60
"""How many random candidates are looked at after that; all known: the space is taken as exhausted."""

PENALTY = 1e3
"""By how much a candidate that failed or was refused counts as missing its limits."""


class ExhaustedError(Exception):
    """A sampler has nothing left to suggest."""


class Suggester:
    """Suggests candidates; state: Optuna's study of the trials so far, and the settings that were tried."""

    def __init__(self, walk: Walk, goal: Goal, sampler: Sampler, seed: int) -> None:
        import optuna

        self._walk = walk
        self._goal = goal
        self._sampler = sampler
        self._seed = seed
        self._tried: set[bytes] = set()
        self._asked: dict[int, Any] = {}
        self._worst: list[float] | None = None
        with _quiet():
            self._study = optuna.create_study(directions=[way for _, way in goal.objectives])

    def opening(self, number: int, partial: Mapping[str, Any]) -> Settings | None:
        """The given settings, all others at their default or picked at random; None where that was tried before."""
        draw = np.random.default_rng(derive(self._seed, "opening", number))
        settings: Settings = {}

        def choose(dimension: Dimension) -> Any:
            if dimension.name not in settings:
                settings[dimension.name] = _opening(dimension, partial, draw)
            return settings[dimension.name]

        self._walk(choose)
        if _key(settings) in self._tried:
            return None
        self.repeat(number, settings)
        return settings

    def pick(self, number: int) -> Settings | None:
        """The settings of the next trial, never those of an earlier one; None where the space is exhausted."""
        from optuna.samplers import RandomSampler
        from optuna.trial import TrialState

        with _quiet():
            for attempt in range(AGAIN + RANDOM):
                seed = derive(self._seed, "pick", number, attempt)
                self._study.sampler = self._sampler(self._walk, seed) if attempt < AGAIN else RandomSampler(seed=seed)
                try:
                    asked = self._study.ask()
                except ExhaustedError:
                    return None
                settings = self._suggested(asked)
                if _key(settings) not in self._tried:
                    self._began(number, settings, asked)
                    return settings
                self._study.tell(asked, state=TrialState.FAIL)
        return None

    def repeat(self, number: int, settings: Settings) -> None:
        """Count a trial with these settings as running."""
        with _quiet():
            self._study.enqueue_trial(parameters(self._walk, settings))
            asked = self._study.ask()
            self._suggested(asked)
        self._began(number, settings, asked)

    def learn(self, trial: Trial) -> None:
        """Take in how a trial ended, whether it was suggested here or in an earlier run of the study."""
        import optuna

        values, misses = self._verdict(trial)
        with _quiet():
            if (asked := self._asked.pop(trial.number, None)) is not None:
                for name, missed in misses.items():
                    asked.set_constraint(name, missed)
                self._study.tell(asked, values)
            else:
                dimensions = met(self._walk, trial.settings)
                past = optuna.trial.create_trial(
                    params={parameter(dimension): trial.settings[dimension.name] for dimension in dimensions},
                    distributions={parameter(dimension): _distribution(dimension) for dimension in dimensions},
                    values=values,
                    system_attrs={f"constraints:{name}": missed for name, missed in misses.items()},
                )
                self._study.add_trial(past)
        self._tried.add(_key(trial.settings))

    def _began(self, number: int, settings: Settings, asked: Any) -> None:
        self._asked[number] = asked
        self._tried.add(_key(settings))

    def _suggested(self, asked: Any) -> Settings:
        settings: Settings = {}

        def choose(dimension: Dimension) -> Any:
            if dimension.name not in settings:
                settings[dimension.name] = _suggest(asked, dimension)
            return settings[dimension.name]

        self._walk(choose)
        return settings

    def _verdict(self, trial: Trial) -> tuple[list[float], dict[str, float]]:
        """Objectives and missed limits as a sampler is told of them.

        A trial without scores has the worst values so far and misses its limits: by much if it failed or was refused,
        by as much as a limit if it was stopped on its way.
        """
        limits = self._goal.limit or {"scored": 0.0}
        if trial.state != "done":
            missed = 1.0 if trial.state == "stopped" else PENALTY
            return self._worst or [0.0 for _ in self._goal.objectives], dict.fromkeys(limits, missed)
        values = [value(trial, name) for name, _ in self._goal.objectives]
        ways = [min if way == "maximize" else max for _, way in self._goal.objectives]
        self._worst = [worse(pair) for worse, *pair in zip(ways, values, self._worst or values, strict=True)]
        misses = {name: min(missed, PENALTY) for name, missed in violation(trial, self._goal).items()}
        return values, misses or {"scored": 0.0}


def _opening(dimension: Dimension, partial: Mapping[str, Any], draw: np.random.Generator) -> Any:
    wanted = partial.get(dimension.name, dimension.default)
    if dimension.options:
        return wanted if wanted in dimension.options else dimension.options[draw.integers(len(dimension.options))]
    if wanted is None:
        return _draw(dimension, draw)
    return _inside(dimension, wanted)


def _draw(dimension: Dimension, draw: np.random.Generator) -> Any:
    low, high = dimension.low, dimension.high
    if dimension.log:
        return _inside(dimension, math.exp(draw.uniform(math.log(low), math.log(high))))
    return _inside(dimension, draw.uniform(low, high))


def _inside(dimension: Dimension, wanted: float) -> Any:
    """The nearest value that the range holds."""
    low, high, step = dimension.low, _top(dimension), _step(dimension)
    near = min(max(wanted, low), high)
    if step:
        near = min(low + round((near - low) / step) * step, high)
    return int(near) if dimension.integer else float(near)


def _step(dimension: Dimension) -> float | None:
    """The step of a range; Optuna has none on a logarithmic one, but for whole numbers."""
    if dimension.integer:
        return 1 if dimension.log else int(dimension.step or 1)
    return None if dimension.log else dimension.step


def _top(dimension: Dimension) -> float:
    """The largest value of a range: steps may end before `high`."""
    step = _step(dimension)
    if not step:
        return dimension.high
    return dimension.low + math.floor((dimension.high - dimension.low) / step + 1e-9) * step


def parameter(dimension: Dimension) -> str:
    """The name of a dimension for Optuna: a path may hold other ranges or options on another branch."""
    if dimension.options:
        return f"{dimension.name} {list(dimension.options)}"
    return f"{dimension.name} {dimension.low}..{dimension.high}/{dimension.step}{' log' if dimension.log else ''}"


def parameters(walk: Walk, settings: Mapping[str, Any]) -> Settings:
    """Settings under the names that Optuna knows them by."""
    return {parameter(dimension): settings[dimension.name] for dimension in met(walk, settings)}


def met(walk: Walk, settings: Mapping[str, Any]) -> list[Dimension]:
    """The dimensions that are met on a walk with these settings."""
    found: dict[str, Dimension] = {}

    def choose(dimension: Dimension) -> Any:
        found[dimension.name] = dimension
        return settings[dimension.name]

    walk(choose)
    return list(found.values())


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.options:
        return CategoricalDistribution(dimension.options)
    if dimension.integer:
        step = int(_step(dimension) or 1)
        return IntDistribution(int(dimension.low), int(_top(dimension)), log=dimension.log, step=step)
    return FloatDistribution(float(dimension.low), float(_top(dimension)), log=dimension.log, step=_step(dimension))


def _suggest(asked: Any, dimension: Dimension) -> Any:
    name, log, step = parameter(dimension), dimension.log, _step(dimension)
    if dimension.options:
        return asked.suggest_categorical(name, dimension.options)
    if dimension.integer:
        return int(asked.suggest_int(name, int(dimension.low), int(_top(dimension)), step=int(step or 1), log=log))
    return float(asked.suggest_float(name, float(dimension.low), float(_top(dimension)), step=step, log=log))


def _key(settings: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(settings, order="sorted")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's log lines and its notices on what is experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
