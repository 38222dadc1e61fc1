"""Somebody whose requests wait."""

from __future__ import annotations


class Payer:
    """Somebody whose requests wait, and how far it is ahead of its share."""

    __slots__ = ("clock_ms", "name", "turns", "waiting", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 1.0
        self.clock_ms = 0.0
        self.waiting = 0
        """Jobs that wait, wholly or in part."""
        self.turns = 0
        """Runs that began with a piece of its own."""
