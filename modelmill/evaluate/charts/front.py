"""Draws what was tried: two figures of every trial, the front, and the limits on both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelmill.evaluate.charts.axes import (
    Axis,
    box,
    dot,
    focus,
    frame,
    horizontal,
    is_wide,
    line,
    span,
    svg,
    text,
    vertical,
)
from modelmill.evaluate.words import UNITS, figure, words

MANY = 120
"""Marks beyond which each is drawn smaller."""


@dataclass(frozen=True)
class Mark:
    """One trial of the picture."""

    x: float
    y: float
    tint: int
    """Number of the color: one for each family."""
    tip: str
    kept: bool = True
    winner: bool = False
    number: int | None = None


@dataclass(frozen=True)
class Side:
    """What one axis shows."""

    name: str
    more: bool = False
    """Whether more of it is better."""
    limit: float | None = None


def front(marks: Sequence[Mark], across: Side, up: Side) -> str:
    """The picture of all marks: filled ones keep the limits, the line joins those that no other beats in both."""
    x, y = _axes(marks, across, up)
    content = [frame(x, y, titled(across.name), titled(up.name)), *_limits(x, y, across, up)]
    content.append(line(_steps(best(marks, across, up), (x, across), (y, up)), "front"))
    for mark in sorted(marks, key=lambda mark: (mark.winner, mark.kept)):
        content.append(_mark(mark, x, y, 5 if len(marks) <= MANY else 3.4))
    if far := sum(not y.low <= mark.y <= y.high for mark in marks):
        said = f"{far} on this edge {'lies' if far == 1 else 'lie'} further {'down' if up.more else 'up'}"
        content.append(text(x.start + 6, y.start - 9 if up.more else y.end + 14, said, "note", "start"))
    return svg(f"{words(up.name)} against {words(across.name)} of {len(marks)} trials", "".join(content))


def titled(name: str) -> str:
    """A figure's name with its unit, as an axis is called.

    >>> titled("size_kb"), titled("accuracy")
    ('size (kB)', 'accuracy')
    """
    return f"{words(name)} ({UNITS[name]})" if UNITS.get(name) else words(name)


def best(marks: Iterable[Mark], across: Side, up: Side) -> list[Mark]:
    """The kept marks that no other kept mark beats in both figures, from the best `across` on.

    >>> a, b, c = Mark(1, 0.8, 0, ""), Mark(2, 0.7, 0, ""), Mark(3, 0.9, 0, "")
    >>> best([c, b, a], Side("size_kb"), Side("accuracy", more=True)) == [a, c]
    True
    """
    way, sign = (-1 if across.more else 1), (1 if up.more else -1)
    found: list[Mark] = []
    for mark in sorted((mark for mark in marks if mark.kept), key=lambda mark: (way * mark.x, -sign * mark.y)):
        if not found or sign * mark.y > sign * found[-1].y:
            found.append(mark)
    return found


def _axes(marks: Sequence[Mark], across: Side, up: Side) -> tuple[Axis, Axis]:
    xs, ys = [mark.x for mark in marks], focus([mark.y for mark in marks], up.more)
    log, steep = is_wide(xs), not up.more and is_wide(ys)
    x = horizontal(*span([*xs, *([across.limit] if across.limit else [])], log), log)
    return x, vertical(*span([*ys, *_near(up.limit, ys)], steep), steep)


def _near(limit: float | None, values: Sequence[float]) -> list[float]:
    """A limit that lies where the values are, or no further from them than they are from one another."""
    if limit is None or not values:
        return []
    low, high = min(values), max(values)
    reach = (high - low) or abs(high)
    return [limit] if low - reach <= limit <= high + reach else []


def _limits(x: Axis, y: Axis, across: Side, up: Side) -> list[str]:
    """Both limits as lines, what lies beyond them shaded, and their words where neither covers the other."""
    drawn = []
    low = y.start - 7
    if up.limit is not None and y.low <= up.limit <= y.high:
        at = y.at(up.limit)
        top, bottom = (at, y.start) if up.more else (y.end, at)
        drawn += [box((x.start, top, x.end - x.start, bottom - top), "beyond"), _dashed(x.start, x.end, at, at)]
        drawn.append(text(x.end - 4, at + (-5 if at > y.end + 20 else 14), _bound(up), "note", "end"))
        low = at - 20 if abs(at - low) < 20 else low
    if across.limit is not None:
        at = x.at(across.limit)
        start, end = (x.start, at) if across.more else (at, x.end)
        left = at > (x.start + x.end) / 2
        drawn += [box((start, y.end, end - start, y.start - y.end), "beyond"), _dashed(at, at, y.start, y.end)]
        drawn.append(text(at + (-5 if left else 5), low, _bound(across), "note", "end" if left else "start"))
    return drawn


def _dashed(x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="limit" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'


def _bound(side: Side) -> str:
    unit = UNITS.get(side.name, "")
    return f"{'at least' if side.more else 'limit'} {figure(side.limit or 0.0)} {unit}".rstrip()


def _steps(marks: Sequence[Mark], across: tuple[Axis, Side], up: tuple[Axis, Side]) -> list[tuple[float, float]]:
    """The staircase: what can be had of one figure for each value of the other, out to the edges of the picture."""
    if not marks:
        return []
    (x, flat), (y, steep) = across, up
    worst = (x.start if flat.more else x.end), (y.start if steep.more else y.end)
    points = [(x.at(marks[0].x), worst[1])]
    for mark in marks:
        points += [(x.at(mark.x), points[-1][1]), (x.at(mark.x), y.at(mark.y))]
    return [*points, (worst[0], points[-1][1])]


def _mark(mark: Mark, x: Axis, y: Axis, radius: float) -> str:
    at = (x.at(mark.x), y.at(mark.y))
    style = f"tint{mark.tint} {'kept' if mark.kept else 'missed'}"
    if not mark.winner:
        return dot(*at, radius, style, mark.tip, mark.number)
    side = "end" if at[0] > (x.start + x.end) / 2 else "start"
    above = at[1] - 12 if at[1] - 20 > y.end else at[1] + 20
    return (
        dot(*at, 10, "halo")
        + dot(*at, 6, style, mark.tip, mark.number)
        + text(at[0] + (4 if side == "end" else -4), above, "winner", "label", side)
    )
