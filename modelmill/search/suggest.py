"""Asks a sampler for the next candidate, and sees to it that none comes twice.

A suggestion depends on the history and on a seed of its own, not on how the history came about: a resumed search goes
on as the uninterrupted one would have.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from modelmill.contracts import Generator, Sampler
from modelmill.errors import SpecError
from modelmill.history import Curve, Past, Suggestion
from modelmill.method import name_of
from modelmill.search.generated import joined
from modelmill.search.past import curve, past
from modelmill.search.seeds import derive
from modelmill.search.standing import expected
from modelmill.space import Dimension, Same, Settings, Space, Walk, themselves
from modelmill.spec import Goal
from modelmill.trial import Trial

AGAIN = 4
"""How often the sampler is asked again where it suggests what was tried."""

RECENT = 200
"""Finished trials whose courses say what a stopped one would have come to."""

RANDOM = 60
"""How many random candidates are looked at after that; all known: the space is taken as exhausted."""


class Suggester:
    """Suggests candidates; state: the history, what was tried, and how finished trials came on."""

    def __init__(
        self,
        walk: Walk,
        goal: Goal,
        sampler: Sampler,
        seed: int,
        same: Same = themselves,
        generator: Generator | None = None,
    ) -> None:
        if generator and sampler.exact:
            message = f"{name_of(type(sampler))} goes through every cell, and a generator draws each architecture anew"
            raise SpecError("search.sampler", message, "Take another sampler, or leave the generator out.")
        self.space = Space(walk, same)
        self._goal = goal
        self._seed = seed
        pick = sampler(self.space)
        self._pick = joined(self.space, generator(self.space), pick) if generator else pick
        self._history: list[Past] = []
        self._tried: set[bytes] = set()
        self._finished: deque[Curve] = deque(maxlen=RECENT)

    def opening(self, number: int, partial: Mapping[str, Any], like: int | None = None) -> Suggestion | None:
        """The given settings, all others at their default or picked at random; None where that was tried before.

        like: the trial whose training it repeats.
        """
        draw = np.random.default_rng(derive(self._seed, "opening", number if like is None else like))
        settings = self.space.answered(lambda dimension: _opening(dimension, partial, draw))
        return self._new(number, Suggestion(settings, like=like))

    def pick(self, number: int) -> Suggestion | None:
        """The next candidate, never one of an earlier trial; None where the space is exhausted."""
        for attempt in range(AGAIN):
            suggestion = self._pick(self._history, derive(self._seed, "pick", number, attempt))
            if suggestion is None:
                return None
            if new := self._new(number, suggestion):
                return new
        note = "picked at random: the sampler suggested what was tried before"
        for attempt in range(RANDOM):
            draw = np.random.default_rng(derive(self._seed, "random", number, attempt))
            if new := self._new(number, Suggestion(self.space.random(draw), note=note)):
                return new
        return None

    def repeat(self, number: int, settings: Settings, memo: Mapping[str, Any] = {}) -> None:
        """Count a trial with these settings as running."""
        self._remember(Past(number, settings, "running", memo=dict(memo)))

    def learn(self, trial: Trial) -> None:
        """Take in how a trial ended, whether it was suggested here or in an earlier run of the study.

        A stopped one counts with what it would have come to, as far as the finished ones tell.
        """
        found = past(trial, self._goal)
        if found.losses and trial.curve:
            course = curve(trial, self._goal)
            if trial.state == "stopped":
                found = msgspec.structs.replace(found, losses=expected(course, self._finished) or found.losses)
            elif course.at:
                self._finished.append(course)
        self._remember(found)

    def _new(self, number: int, suggestion: Suggestion) -> Suggestion | None:
        if self._key(suggestion.settings) in self._tried:
            return None
        self.repeat(number, suggestion.settings, suggestion.memo)
        return suggestion

    def _remember(self, found: Past) -> None:
        """Put it in its place: nearly always it is the last one, or one of the last."""
        for i in range(len(self._history) - 1, -1, -1):
            if self._history[i].number == found.number:
                self._history[i] = found
                break
            if self._history[i].number < found.number:
                insort(self._history, found, lo=i + 1, key=lambda one: one.number)
                break
        else:
            self._history.insert(0, found)
        self._tried.add(self._key(found.settings))

    def _key(self, settings: Settings) -> bytes:
        return self.space.key(settings)


def _opening(dimension: Dimension, partial: Mapping[str, Any], draw: np.random.Generator) -> Any:
    wanted = partial.get(dimension.name, dimension.default)
    if dimension.options:
        return wanted if wanted in dimension.options else dimension.random(draw)
    return dimension.random(draw) if wanted is None else dimension.inside(wanted)
