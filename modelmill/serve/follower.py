"""What a service follows while it runs: keys, the registry, rollouts, and what the other workers were told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from modelmill.errors import MillError
from modelmill.serve import gauges
from modelmill.serve.plane import Plane
from modelmill.serve.process.crew import LOOK_S
from modelmill.serve.signals.signals import Signals
from modelmill.serve.signals.status import STEP_SECONDS


class Follower:
    """Looks every so often, and says on stderr what is wrong; a registry that cannot be read now may be later.

    seconds: how often.
    """

    def __init__(self, plane: Plane, signals: Signals, seconds: float) -> None:
        self.plane = plane
        self.signals = signals
        self.seconds = seconds
        self.heard = 0
        """How many changes the workers had made when this one last began to follow."""
        self.told: set[str] = set()
        """What is wrong now, and was said."""

    async def begin(self) -> None:
        """Say what the models that were loaded lack, and read rollouts and routes, before the first request."""
        self._tell(self.plane.catalogue.problems.values(), aloud=self.signals.worker == 0)
        await self.plane.traffic.turn()

    async def follow(self) -> None:
        """Look for ever."""
        while True:
            await self._pause()
            gauges.write(self.signals.figures, self.plane, self.signals.worker == 0)
            self._tell(await self._turn())

    async def remember(self) -> None:
        """Keep the counts of the last day, for `/api/status`, for ever."""
        while True:
            await asyncio.sleep(STEP_SECONDS)
            await asyncio.to_thread(self.signals.keep)

    async def leave(self) -> None:
        """Write the last counts; a database that refuses them now keeps nobody from ending."""
        await asyncio.to_thread(self.signals.keep)
        try:
            await self.plane.traffic.close()
        except MillError as error:
            print(f"modelmill serve: the last counts are lost: {error}", file=sys.stderr)

    def _tell(self, problems: Iterable[str], aloud: bool = True) -> None:
        """Say what is wrong, once as long as it is; not aloud where another worker says the same."""
        now = set(problems)
        for problem in sorted(now - self.told) if aloud else ():
            print(f"modelmill serve: {problem}", file=sys.stderr)
        self.told = now

    async def _pause(self) -> None:
        """Wait for the next turn, which comes at once where another worker was told to load or unload a model."""
        changes, left = self.plane.state.changes, self.seconds
        while left > 0 and (changes is None or changes.made == self.heard):
            step = left if changes is None else min(left, LOOK_S)
            await asyncio.sleep(step)
            left -= step

    async def _turn(self) -> Iterable[str]:
        """Follow the keys, the registry and the other workers; what is wrong with that."""
        plane = self.plane
        changes = plane.state.changes
        if changes is not None:
            self.heard = changes.made
        try:
            await asyncio.to_thread(plane.door.refresh)
            await plane.traffic.turn(plane.catalogue.refresh)
            if changes is not None:
                changes.follow(self.heard)
            return tuple(plane.catalogue.problems.values())
        except MillError as error:
            return (str(error),)
        except Exception as error:  # noqa: BLE001 - the next turn may go well, and nobody else follows
            return (f"following the registry failed: {type(error).__name__}: {error}",)
