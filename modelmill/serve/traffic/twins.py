"""Sessions that stand in for live versions where these are compared: asked as seldom as the candidates'.

The session that answers has its weights in the processor's caches, and a candidate that is the same would be slower
than it, by up to a seventh (`docs/why.md`).
"""

from __future__ import annotations

import weakref
from collections.abc import Collection
from typing import NamedTuple, Protocol

from modelmill.serve.engine.pace import Runs
from modelmill.serve.models.endpoint import Endpoint


class Opens(Protocol):
    """What is asked of the catalogue."""

    def twin(self, endpoint: Endpoint) -> Runs | None:
        """Another session of a version, on which no request runs; None where it cannot be had."""


class Twin(NamedTuple):
    """Another session of a version, and the one that answered when it was opened."""

    of: weakref.ref[Runs]
    session: Runs | None
    """None where it could not be had."""


class Twins:
    """The sessions by the key of the watch that compares; another is opened once the one that answers was replaced."""

    def __init__(self, catalogue: Opens) -> None:
        self.catalogue = catalogue
        self.held: dict[str, Twin] = {}

    def of(self, key: str, live: Endpoint | None) -> Runs | None:
        """What stands in for a live version; None where that has to do so itself. It may be opened, on a thread."""
        if live is None or live.steps:
            return None
        session, found = live.lane.session, self.held.get(key)
        if found is None or found.of() is not session:
            found = self.held[key] = Twin(weakref.ref(session), self.catalogue.twin(live))
        return found.session

    def keep(self, keys: Collection[str]) -> None:
        """Let go of all others."""
        self.held = {key: twin for key, twin in self.held.items() if key in keys}
