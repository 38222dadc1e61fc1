"""Follows a history that grows, so that an algorithm with a state takes one step a trial, not one for each so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from modelmill.history import History, Past

State = TypeVar("State")


class Replay(Generic[State]):
    """The state of an algorithm after a history; state: what came of the beginning in which nothing runs any more.

    `step` gives a new state and leaves the old one as found. It sees every trial in the order of the numbers, and
    those that run as well. What comes out is what a replay of the whole history would give, however it came about.

    >>> count = Replay(int, lambda total, one: total + (one.state == "done"))
    >>> count([Past(0, {}, "done"), Past(1, {}, "running")]), count([Past(0, {}, "done"), Past(1, {}, "done")])
    (1, 2)
    """

    def __init__(self, start: Callable[[], State], step: Callable[[State, Past], State]) -> None:
        self._start = start
        self._step = step
        self._settled: list[Past] = []
        self._state = start()

    def __call__(self, history: History) -> State:
        """The state after all of these trials."""
        if list(history[: len(self._settled)]) != self._settled:
            self._settled, self._state = [], self._start()
        known = len(self._settled)
        for one in history[known:]:
            if one.state == "running":
                break
            self._state = self._step(self._state, one)
            self._settled.append(one)
        state = self._state
        for one in history[len(self._settled) :]:
            state = self._step(state, one)
        return state
