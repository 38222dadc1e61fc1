"""Tries every cell of a grid once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Suggestion
from modelmill.space import Space, cells


class Grid(Sampler):
    """Every combination of settings once, branch by branch; the search ends when none is left."""

    exact: ClassVar[bool] = True

    points: Annotated[int, Meta(ge=1)] = 5
    """Values that stand for a range without steps, its ends included."""

    def __call__(self, space: Space) -> Pick:
        """Picks the first cell that no trial has had, running ones included: workers share one grid."""
        known = list[Mapping[str, Any]]()
        ahead = cells(space.walk, self.points)

        def cell(i: int) -> Mapping[str, Any] | None:
            while len(known) <= i and (found := next(ahead, None)) is not None:
                known.append(found)
            return known[i] if i < len(known) else None

        def pick(history: History, seed: int) -> Suggestion | None:
            tried = {space.key(one.settings) for one in history}
            i = 0
            while (found := cell(i)) is not None and space.key(found) in tried:
                i += 1
            return None if found is None else Suggestion(dict(found))

        return pick
