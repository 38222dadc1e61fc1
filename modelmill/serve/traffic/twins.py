"""Sessions that stand in for live versions where these are compared: asked as seldom as the candidates'.

The session that answers has its weights in the processor's caches, and a candidate that is the same would be slower
than it, by up to a seventh (`docs/why.md`).
"""

from __future__ import annotations

import weakref
from collections.abc import Collection
from typing import NamedTuple, Protocol

from modelmill.runtime.session import Session
from modelmill.serve.engine.pace import Runs
from modelmill.serve.models.endpoint import Endpoint
from modelmill.version import Version


class Opens(Protocol):
    """What is asked of whoever opens sessions."""

    def twin(self, endpoint: Endpoint) -> weakref.ref[Session] | None:
        """A spare session of a version, as long as there is room for it; None where there is none now."""

    def leave_twin(self, version: Version, twin: weakref.ref[Session]) -> None:
        """Let go of it."""


class Twin(NamedTuple):
    """A spare session of a version, and the one that answered when it was opened."""

    version: Version
    of: weakref.ref[Runs]
    session: weakref.ref[Session] | None
    """None where it could not be had; gone where room was wanted."""


class Twins:
    """The sessions by the key of the watch that compares.

    Another is opened once the session that answers was replaced. One that had to make room is not opened again: it
    would have to go again.
    """

    def __init__(self, opens: Opens) -> None:
        self.opens = opens
        self.held: dict[str, Twin] = {}

    def of(self, key: str, live: Endpoint | None) -> weakref.ref[Session] | None:
        """What stands in for a live version; None where that has to do so itself. It may be opened, on a thread."""
        if live is None or live.steps:
            return None
        session, found = live.lane.session, self.held.get(key)
        if found is None or found.of() is not session:
            self._leave(found)
            found = self.held[key] = Twin(live.version, weakref.ref(session), self.opens.twin(live))
        return found.session

    def keep(self, keys: Collection[str]) -> None:
        """Let go of all others."""
        for key in [key for key in self.held if key not in keys]:
            self._leave(self.held.pop(key))

    def _leave(self, twin: Twin | None) -> None:
        if twin is not None and twin.session is not None:
            self.opens.leave_twin(twin.version, twin.session)
