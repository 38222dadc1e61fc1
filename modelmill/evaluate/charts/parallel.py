"""Draws parallel coordinates: a line a trial through all its settings and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelmill.evaluate.charts.axes import Axis, focus, is_wide, line, span, svg, text
from modelmill.evaluate.words import figure

WIDTH, TOP, BOTTOM, SIDE = 1040, 44, 268, 46
"""Of the picture, where its axes begin and end, and the room beside the outer ones."""
MISSING = 284
"""Where a line passes an axis that its trial has no value for."""
HEIGHT = 302
MOST_NAMES = 9
"""Values of a choice that are written beside its axis."""
LETTERS = 16
"""Of a name over its axis."""


@dataclass(frozen=True)
class Rail:
    """One upright axis: what it shows, and the value of every line on it, None where there is none."""

    name: str
    values: Sequence[Any]
    more: bool | None = None
    """Whether more of a figure is better; None for a setting."""
    limit: float | None = None


@dataclass(frozen=True)
class Thread:
    """How the line of one trial looks: the shade of its quality from 0, poor, to 4, good, or "faint"."""

    number: int
    style: str
    tip: str


def parallel(rails: Sequence[Rail], threads: Sequence[Thread]) -> str:
    """Every trial as a line through the rails, in the order given: what is drawn last lies above."""
    width = (WIDTH - 2 * SIDE) / max(len(rails) - 1, 1)
    places = [_Place(rail, round(SIDE + i * width, 1)) for i, rail in enumerate(rails)]
    heights = [[place.at(value) for value in place.rail.values] for place in places]
    drawn = []
    for i, thread in enumerate(threads):
        path = [(place.x, column[i]) for place, column in zip(places, heights, strict=True)]
        drawn.append(line(path, thread.style, thread.tip, thread.number))
    content = "".join(drawn) + "".join(_rail(place, i) for i, place in enumerate(places))
    return svg(f"settings and figures of {len(threads)} trials", content, HEIGHT, WIDTH, "chart parallel")


class _Place:
    """Where a rail stands, and where values lie on it; holds the scale that it worked out."""

    def __init__(self, rail: Rail, x: float) -> None:
        self.rail, self.x = rail, x
        known = [value for value in rail.values if value is not None]
        self.names: list[str] = []
        if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
            self.axis = self._numbers([float(value) for value in known])
        else:
            self.names = sorted(Counter(_said(value) for value in known))
            self.axis = Axis(-0.5, max(len(self.names), 1) - 0.5, BOTTOM, TOP)
        self.missing = len(known) < len(rail.values)

    def _numbers(self, values: Sequence[float]) -> Axis:
        """Better figures lie above, and hopeless ones on the edge."""
        values = values if self.rail.more is None else focus(values, self.rail.more)
        log = is_wide(values)
        low, high = min(values), max(values)
        low, high = (low, high) if low < high else span(values, log)
        return Axis(low, high, *((TOP, BOTTOM) if self.rail.more is False else (BOTTOM, TOP)), log)

    def at(self, value: Any) -> float:
        if value is None:
            return MISSING
        return self.axis.at(self.names.index(_said(value)) if self.names else float(value))


def _said(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _rail(place: _Place, i: int) -> str:
    """A rail with its name over it, every other one higher up, and what its ends or its choices are."""
    rail, x = place.rail, place.x
    name = rail.name if len(rail.name) <= LETTERS else rail.name[: LETTERS - 1] + "…"
    parts = [
        f'<line class="axis" x1="{x}" x2="{x}" y1="{TOP}" y2="{BOTTOM}"/>',
        text(x, 12 + 16 * (i % 2), name, "name" if rail.more is None else "name label", "middle"),
    ]
    if place.missing:
        parts.append(f'<circle class="hollow" cx="{x}" cy="{MISSING}" r="2.6"/>')
    if rail.limit is not None and place.axis.low <= rail.limit <= place.axis.high:
        at = place.axis.at(rail.limit)
        parts.append(f'<line class="limit" x1="{x - 9}" x2="{x + 9}" y1="{at}" y2="{at}"/>')
    return "".join(parts + [_beside(place.x, y, words) for y, words in _marks(place)])


def _marks(place: _Place) -> list[tuple[float, str]]:
    if place.names:
        shown = place.names if len(place.names) <= MOST_NAMES else [place.names[0], place.names[-1]]
        return [(place.at(name) + 4, name if len(name) <= 11 else name[:10] + "…") for name in shown]
    low, high = place.axis.low, place.axis.high
    ends = [(low, place.axis.start), (high, place.axis.end)]
    return [(at + (10 if at == BOTTOM else -2) - 2, figure(value)) for value, at in ends]


def _beside(x: float, y: float, words: str) -> str:
    """Words beside a rail, on a ground of their own, since lines run below them."""
    return text(x + 5, y, words, "beside")
