"""Refuses goals that no model can meet: what contradicts itself is said before any work."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from modelmill.errors import OutOfBounds, SpecError
from modelmill.method import find, names


def check_aims(
    maximize: Sequence[str],
    minimize: Sequence[str],
    reach: Mapping[str, float],
    limit: Mapping[str, float],
    floors: Collection[str],
) -> None:
    """Refuse objectives that pull against each other, and values that cannot be reached or kept.

    floors: costs of which more is better. Raises SpecError or OutOfBounds.
    """
    for name in {*maximize} & {*minimize}:
        raise SpecError(f"goal.maximize = {name}", "the goal minimizes it as well", "Keep one of the two.")
    for way, named in (("maximize", maximize), ("minimize", minimize)):
        for name in named:
            if named.count(name) > 1:
                raise SpecError(f"goal.{way} = {name}", "it is named twice", "Name it once.")
    for key, values in (("reach", reach), ("limit", limit)):
        for name, value in values.items():
            where = f"goal.{key}.{name} = {value:g}"
            if not math.isfinite(value):
                raise OutOfBounds(where, "expected a finite number", f"Leave {name} out where anything goes.")
            _check_way(where, name, maximize, minimize, floors)
            _check_best(where, name, value)


def _check_way(
    where: str, name: str, maximize: Sequence[str], minimize: Sequence[str], floors: Collection[str]
) -> None:
    """A limit is a floor or a ceiling, and what the goal asks for must not lie on its other side."""
    metric = _metric(name)
    more = find("metrics", metric).better == "higher" if metric else name in floors
    if name in (minimize if more else maximize):
        side, way = ("at least", "minimizes") if more else ("at most", "maximizes")
        hint = f"Write {'maximize' if more else 'minimize'}, or leave one of the two out."
        raise SpecError(where, f"it is to be {side} that, and the goal {way} it", hint)


def _check_best(where: str, name: str, value: float) -> None:
    metric = _metric(name)
    if not metric:
        return
    kind = find("metrics", metric)
    if (value > kind.best) if kind.better == "higher" else (value < kind.best):
        hint = (
            f"Write {value / 100:g}." if kind.best == 1 and 1 < value <= 100 else f"Write a value within {kind.best:g}."
        )
        raise OutOfBounds(where, f"no model keeps it: the best {metric} there can be is {kind.best:g}", hint)


def _metric(name: str) -> str:
    """The metric of a name, which may carry its target in front; "" for a cost."""
    last = name.rpartition(".")[2]
    return last if last in names("metrics") else ""
