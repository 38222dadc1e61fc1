"""Draws what was tried: quality against a cost, the front, and the limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelmill.evaluate.charts.axes import Axis, box, dot, frame, horizontal, is_wide, line, span, svg, text, vertical
from modelmill.evaluate.words import UNITS, figure, words


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


@dataclass(frozen=True)
class Scale:
    """What the two axes show."""

    cost: str
    metric: str
    higher: bool = True
    """Whether more of the metric is better."""
    floor: bool = False
    """Whether more of the cost is better."""
    limit: float | None = None
    """On the cost."""


def front(marks: Sequence[Mark], scale: Scale) -> str:
    """The picture of all marks: filled ones keep the limits, the line joins those that no other beats in both."""
    unit = UNITS.get(scale.cost, "")
    x, y = _axes(marks, scale)
    content = [
        frame(x, y, f"{words(scale.cost)}{f' ({unit})' if unit else ''}", words(scale.metric)),
        _limit(x, y, scale),
    ]
    content.append(line(_steps(best(marks, scale), x, y), "front"))
    for mark in sorted(marks, key=lambda mark: (mark.winner, mark.kept)):
        content.append(_mark(mark, x, y))
    return svg(f"{words(scale.metric)} against {words(scale.cost)} of {len(marks)} trials", "".join(content))


def best(marks: Iterable[Mark], scale: Scale) -> list[Mark]:
    """The kept marks that no other kept mark beats in cost and quality, cheapest first.

    >>> a, b, c = Mark(1, 0.8, 0, ""), Mark(2, 0.7, 0, ""), Mark(3, 0.9, 0, "")
    >>> best([c, b, a], Scale("size_kb", "accuracy")) == [a, c]
    True
    """
    sign, way = (1 if scale.higher else -1), (-1 if scale.floor else 1)
    found: list[Mark] = []
    for mark in sorted((mark for mark in marks if mark.kept), key=lambda mark: (way * mark.x, -sign * mark.y)):
        if not found or sign * mark.y > sign * found[-1].y:
            found.append(mark)
    return found


def _axes(marks: Sequence[Mark], scale: Scale) -> tuple[Axis, Axis]:
    costs = [mark.x for mark in marks]
    log = is_wide(costs)
    x = horizontal(*span([*costs, *([scale.limit] if scale.limit else [])], log), log)
    return x, vertical(*_focus(marks, scale))


def _focus(marks: Sequence[Mark], scale: Scale) -> tuple[float, float]:
    """The range of quality without hopeless trials, which would flatten all others; they sit on the edge."""
    ranked = sorted((mark.y for mark in marks), reverse=scale.higher)
    if len(ranked) < 5:
        return span(ranked)
    top, middle = ranked[0], ranked[len(ranked) // 2]
    far = top + (middle - top) * 4
    return span([value for value in ranked if (value >= far if scale.higher else value <= far)] or ranked)


def _limit(x: Axis, y: Axis, scale: Scale) -> str:
    if scale.limit is None:
        return ""
    at = x.at(scale.limit)
    start, end = (x.start, at) if scale.floor else (at, x.end)
    label = f"{'at least' if scale.floor else 'limit'} {figure(scale.limit)} {UNITS.get(scale.cost, '')}"
    side = "end" if at > (x.start + x.end) / 2 else "start"
    return (
        box((start, y.end, end - start, y.start - y.end), "beyond")
        + f'<line class="limit" x1="{at}" x2="{at}" y1="{y.start}" y2="{y.end}"/>'
        + text(at + (-5 if side == "end" else 5), y.start - 7, label, "note", side)
    )


def _steps(marks: Sequence[Mark], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """The staircase: what quality can be had for each cost."""
    points: list[tuple[float, float]] = []
    for mark in marks:
        if points:
            points.append((x.at(mark.x), points[-1][1]))
        points.append((x.at(mark.x), y.at(mark.y)))
    return points


def _mark(mark: Mark, x: Axis, y: Axis) -> str:
    at = (x.at(mark.x), y.at(mark.y))
    style = f"tint{mark.tint} {'kept' if mark.kept else 'missed'}"
    if not mark.winner:
        return dot(*at, 5, style, mark.tip)
    side = "end" if at[0] > (x.start + x.end) / 2 else "start"
    above = at[1] - 12 if at[1] - 20 > y.end else at[1] + 20
    return (
        dot(*at, 10, "halo")
        + dot(*at, 6, style, mark.tip)
        + text(at[0] + (4 if side == "end" else -4), above, "winner", "label", side)
    )
