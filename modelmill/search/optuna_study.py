"""Optuna's samplers as ours: a study in memory follows the history, since that is how they want to see it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modelmill.contracts import Pick
from modelmill.history import History, Past, Suggestion
from modelmill.space import Dimension, Settings, Space

DRAWN = "tpe:relative_params:0"
"""Where TPE notes what it drew for a running trial, also on branches not taken: a resumed search has no such note."""

PENALTY = 1e3
"""By how much a candidate that failed or was refused counts as missing its limits."""


def follow(space: Space, make: Callable[[int], Any]) -> Pick:
    """What picks as the Optuna sampler would that `make` builds from the seed of one suggestion."""
    follower: list[_Follower] = []

    def pick(history: History, seed: int) -> Suggestion | None:
        objectives = max((len(one.losses) for one in history), default=1) or 1
        if not follower or follower[0].strange(history, objectives):
            follower[:] = [_Follower(space, objectives)]
        follower[0].catch_up(history)
        return Suggestion(follower[0].ask(make(seed)))

    return pick


class _Follower:
    """An Optuna study and which trials of the history are in it; state: the study, and the last question's trial."""

    def __init__(self, space: Space, objectives: int) -> None:
        import optuna

        self._space = space
        self._objectives = objectives
        self._running: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._asked: tuple[Any, Settings] | None = None
        self._worst: list[float] | None = None
        with _quiet():
            self._study = optuna.create_study(directions=["minimize"] * objectives)

    def strange(self, history: History, objectives: int) -> bool:
        """Whether this is another history than the one that was followed so far."""
        known = {one.number for one in history}
        return objectives != self._objectives or not known.issuperset({*self._running, *self._ended})

    def catch_up(self, history: History) -> None:
        """Take in what has begun and what has ended."""
        with _quiet():
            for one in history:
                if one.number not in self._running and one.number not in self._ended:
                    self._begin(one)
                if one.number in self._running and one.state != "running":
                    self._end(one)
            self._drop()

    def ask(self, sampler: Any) -> Settings:
        """What a sampler suggests next."""
        with _quiet():
            self._study.sampler = sampler
            asked = self._study.ask()
            settings = self._space.answered(lambda dimension: _suggest(asked, dimension))
            self._study._storage.set_trial_system_attr(asked._trial_id, DRAWN, "")
        self._asked = (asked, settings)
        return settings

    def _begin(self, one: Past) -> None:
        if self._asked is not None and self._asked[1] == one.settings:
            self._running[one.number] = self._asked[0]._trial_id
            self._asked = None
            return
        met = self._space.met(one.settings)
        self._study.enqueue_trial({dimension.key: one.settings[dimension.name] for dimension in met})
        asked = self._study.ask()
        for dimension in met:
            _suggest(asked, dimension)
        self._running[one.number] = asked._trial_id

    def _end(self, one: Past) -> None:
        """Tell the values; a trial without them has the worst so far, and misses its limits."""
        from optuna.trial import TrialState

        identity = self._running.pop(one.number)
        storage = self._study._storage
        values, misses = list(one.losses), one.misses
        if not one.losses:
            values = self._worst or [0.0] * self._objectives
            misses = 1.0 if one.state == "stopped" else PENALTY
        elif one.state == "stopped":
            misses = max(misses, 1e-3)
        else:
            self._worst = [max(pair) for pair in zip(values, self._worst or values, strict=True)]
        storage.set_trial_system_attr(identity, "constraints:misses", min(misses, PENALTY))
        storage.set_trial_state_values(identity, TrialState.COMPLETE, values)
        self._ended[one.number] = identity

    def _drop(self) -> None:
        """Forget a suggestion that was not taken."""
        from optuna.trial import TrialState

        if self._asked is not None:
            self._study.tell(self._asked[0], state=TrialState.FAIL)
            self._asked = None


def _suggest(asked: Any, dimension: Dimension) -> Any:
    name, log, step = dimension.key, dimension.log, dimension.stride
    if dimension.options:
        return asked.suggest_categorical(name, dimension.options)
    if dimension.integer:
        return int(asked.suggest_int(name, int(dimension.low), int(dimension.top), step=int(step or 1), log=log))
    return float(asked.suggest_float(name, float(dimension.low), float(dimension.top), step=step, log=log))


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
