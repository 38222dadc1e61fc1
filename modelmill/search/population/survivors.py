"""The survivors of a search: of all trials that have ended, the few that may have children."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelmill.history import Past
from modelmill.search.past import order
from modelmill.search.population.verdict import judged

Members = tuple[Past, ...]
"""Trials, best first."""


def survivors(members: Members, one: Past, size: int) -> Members:
    """The best of the members and of one that has ended; of equal settings only one stays."""
    if not judged(one) or any(one.settings == other.settings for other in members):
        return members
    return tuple(order((*members, one))[:size])


def tournament(members: Sequence[Past], size: int, draw: np.random.Generator) -> Past:
    """The best of some members drawn at random; they are given best first."""
    return members[int(draw.integers(len(members), size=size).min())]
