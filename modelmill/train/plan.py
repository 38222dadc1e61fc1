"""How many steps a training takes: what was asked for, or as many as fit into the time that there is."""

from __future__ import annotations

import time

SHARE = 0.95
"""How much of the allowance is planned for; the rest is for what follows the last step."""


class Plan:
    """Counts steps, and shortens the training where it would not end in time."""

    def __init__(self, asked: int, seconds: float) -> None:
        self.asked = asked
        self.total = asked
        self.done = 0
        self.seconds = seconds
        self.spent = 0.0
        """Seconds of earlier processes, where the training was resumed."""
        self.checks = 0.0
        """Seconds spent beside the steps: on validation and checkpoints."""
        self._started = time.monotonic()
        self._first = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the training began, over all its processes."""
        return self.spent + time.monotonic() - self._started

    @property
    def over(self) -> bool:
        """Whether all steps are done, or the time is."""
        return self.done >= self.total or bool(self.seconds and self.elapsed > self.seconds)

    @property
    def share(self) -> float:
        """The share of steps that is behind."""
        return self.done / self.total

    def step(self) -> None:
        """Count a step; after 1, 2, 4, 8 ... of them the rest is planned anew."""
        self.done += 1
        if not self.seconds:
            return
        if not self._first:
            self._first = self.elapsed
        elif self.done & (self.done - 1) == 0:
            self.fit()

    def fit(self) -> None:
        """Plan as many steps as fit into the time, at the speed that was seen so far.

        The first step is slow for its own reasons and is left out. Late in the schedule it only gets shorter, so that
        the step size never rises again.
        """
        if not self.seconds or self.done < 2:
            return
        pace = max(self.elapsed - self._first, 1e-9) / (self.done - 1)
        fitting = self.done + int(max(self.seconds * SHARE - self.elapsed, 0.0) / pace)
        early = self.done * 4 < self.total
        self.total = max(min(self.asked, fitting) if early else min(self.total, fitting), self.done)

    def note(self, epoch: int) -> str:
        """What became of the schedule, in words; empty where it was kept. `epoch` is the number of steps of one."""
        if self.total >= self.asked:
            return ""
        planned, asked = self.total / epoch, self.asked / epoch
        return f"the schedule was shortened from {asked:g} to {planned:.1f} epochs to end within {self.seconds:g} s"
