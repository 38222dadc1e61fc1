"""A change of the registry or the service, as it is recorded."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True):
    """A change of the registry: who did what, when, to which version, and why."""

    at_ms: int
    verb: str
    name: str
    number: int
    note: str = ""
    alias: str = ""
    """The alias that was moved, where one was."""
