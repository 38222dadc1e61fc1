"""What a sampler and a stopper are given: the trials so far, as plain values without what they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from modelmill.space import Settings
from modelmill.trial import State


class Past(msgspec.Struct, frozen=True):
    """One trial as a sampler sees it."""

    number: int
    settings: Settings
    state: State
    losses: tuple[float, ...] = ()
    """The objectives, signed so that lower is better; empty where they are not known.

    Of a stopped trial what it had reached; of a trial that runs nothing.
    """
    misses: float = 0.0
    """By which part of them its limits are missed, summed; infinite for one that failed or was refused."""
    work: float = 0.0
    """What it cost in row-steps times multiply-adds: the same on every machine. 0 where it is not known."""
    memo: dict[str, Any] = {}
    """What the sampler that suggested it wrote down about it."""
    gradients: dict[str, float] = {}
    """Setting: the derivative of the loss, where trials were asked for it."""
    like: int | None = None
    """The trial whose training it shares."""

    @property
    def scored(self) -> bool:
        """Whether it ran to its end, and has losses."""
        return self.state == "done" and bool(self.losses)


History = Sequence[Past]
"""All trials so far in the order of their numbers, those that run among them."""


class Suggestion(msgspec.Struct, frozen=True):
    """What a sampler suggests to try, and what it wants to remember about it."""

    settings: Settings
    memo: dict[str, Any] = {}
    """JSON values; it is kept with the trial, so that a sampler needs no state of its own."""
    note: str = ""
    """What a person should know about how it was picked; empty as a rule."""
    like: int | None = None
    """A finished trial from which it differs in what comes after training alone: the training is not repeated."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the trial is told to remember of how it came about."""
        shared = "" if self.like is None else f"trained as #{self.like} was"
        return tuple(note for note in (self.note, shared) if note)


class Curve(msgspec.Struct, frozen=True):
    """The course of one trial, for a stopper: objectives and missed limits, point by point, lower is better."""

    number: int
    at: tuple[tuple[int, int], ...]
    """(folds finished, steps of the present fold) of every point, rising."""
    losses: tuple[tuple[float, ...], ...]
    """The objectives at each point; a cost that is known before training stands at every point, NaN is unknown."""
    misses: tuple[float, ...]
    """By which part of them the limits were missed at each point, as far as they were known; 0 where kept."""
    ended: bool = False
    kept: bool = False
    """Whether it ran to its end and keeps every limit."""
