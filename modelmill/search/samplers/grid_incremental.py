"""Sweeps a few settings at a time, the others at the best so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.errors import SpecError, UnknownName
from modelmill.history import History, Suggestion
from modelmill.search.past import order
from modelmill.space import Dimension, Settings, Space, cells, grid

KEY = "grid_incremental"

Group = tuple[str, ...]
"""Names of settings that are swept together."""


class GridIncremental(Sampler):
    """A grid that grows with the number of settings and not with its power: group by group, around the best so far.

    Every cell of a group is tried while all other settings stand as in the best trial; then comes the next group, and
    after the last one the first again. No cell runs twice. The search ends when no group holds a cell around the best
    that was not tried: nothing improves by changing one group alone, though changing two at once still might. What is
    found can depend on the order of the groups. While the last cells of a sweep still run, other workers go on with the
    next group, and when all are given out, with cells around the next best trials until the last ones have ended.
    A group that opens a branch starts the branch's settings at their default, or in the middle of their grid.
    """

    exact: ClassVar[bool] = True

    points: Annotated[int, Meta(ge=2)] = 5
    """Values that stand for a range without steps, its ends included."""
    group: Annotated[int, Meta(ge=1)] = 1
    """How many settings are swept together, where `groups` does not say."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Settings to sweep together, by their names; those not named follow, `group` at a time."""

    def __call__(self, space: Space) -> Pick:
        """Picks the first cell of the present sweep that no trial has had."""
        groups = self._groups(space)

        def pick(history: History, seed: int) -> Suggestion | None:
            tried = {space.key(one.settings) for one in history}
            ranked = [one.settings for one in order(history) if one.losses]
            present = next((one.memo[KEY]["group"] for one in reversed(history) if KEY in one.memo), 0)
            turns = [(present + i) % len(groups) for i in range(len(groups))]
            for turn, cell in self._around(space, groups, turns, (ranked or [{}])[0]):
                if space.key(cell) not in tried:
                    return Suggestion(cell, {KEY: {"group": turn, "beside": False}})
            if all(one.state != "running" or one.memo.get(KEY, {}).get("beside") for one in history):
                return None
            memo = {KEY: {"group": present, "beside": True}}
            for base in ranked[1:]:
                for _, cell in self._around(space, groups, turns, base):
                    if space.key(cell) not in tried:
                        return Suggestion(cell, memo)
            return Suggestion(space.random(np.random.default_rng(seed)), memo)

        return pick

    def _around(
        self, space: Space, groups: Sequence[Group], turns: Sequence[int], base: Mapping[str, Any]
    ) -> Iterator[tuple[int, Settings]]:
        """The cells of all groups around settings, with the group of each."""
        for turn in turns:
            for cell in self._sweep(space, groups[turn], base):
                yield turn, cell

    def _groups(self, space: Space) -> list[Group]:
        names = list(dict.fromkeys(dimension.name for dimension in space.dimensions))
        named = [name for group in self.groups for name in group]
        for name in named:
            if name not in names:
                raise UnknownName.among("grid_incremental.groups", "range", name, names)
            if named.count(name) > 1:
                raise SpecError("grid_incremental.groups", f"{name!r} stands in two groups", "Name it in one of them.")
        rest = [name for name in names if name not in named]
        sizes = range(0, len(rest), self.group)
        found = [group for group in self.groups if group] + [tuple(rest[i : i + self.group]) for i in sizes]
        return found or [()]

    def _sweep(self, space: Space, group: Group, base: Mapping[str, Any]) -> Iterator[Settings]:
        """The cells of a group around settings."""
        swept = frozenset(group)

        def walk(choose: Any) -> None:
            space.walk(lambda d: choose(d) if d.name in swept else _stand(d, base, self.points))

        for cell in cells(walk, self.points):
            yield self._whole(space, {**base, **cell}, swept)

    def _whole(self, space: Space, partial: Mapping[str, Any], swept: frozenset[str]) -> Settings:
        def choose(dimension: Dimension) -> Any:
            if dimension.name not in swept:
                return _stand(dimension, partial, self.points)
            value = partial[dimension.name]
            return value if dimension.options else dimension.inside(value)

        return space.answered(choose)


def _stand(dimension: Dimension, base: Mapping[str, Any], points: int) -> Any:
    """Where a setting stands that is not swept: as in the base, else at its default, else in the middle of its grid."""
    for value in (base.get(dimension.name), dimension.default):
        if dimension.options and value in dimension.options:
            return value
        if not dimension.options and isinstance(value, int | float):
            return dimension.inside(value)
    values = grid(dimension, points)
    return values[(len(values) - 1) // 2]
