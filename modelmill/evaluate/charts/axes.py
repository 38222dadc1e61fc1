"""Axes, ticks and the few SVG elements that every picture is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

from modelmill.evaluate.words import figure

WIDTH, HEIGHT = 360, 270
"""Of every chart, in its own units: about a phone's width, so that its letters are never shrunk much."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 20, 40
"""Margins around the plot."""


@dataclass(frozen=True)
class Axis:
    """A range of values laid on a range of pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False
    """Only whole numbers are marked: epochs, trials."""

    def at(self, value: float) -> float:
        """The pixel of a value, held within the axis.

        >>> Axis(0, 10, 100, 200).at(5)
        150.0
        >>> Axis(1, 100, 0, 200, log=True).at(10)
        100.0
        """
        low, high, value = (log10(x) if self.log else x for x in (self.low, self.high, self._held(value)))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def _held(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the axis.

        >>> Axis(0, 10, 0, 1).ticks()
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        """
        if self.log:
            marks = [m * 10.0**e for e in range(floor(log10(self.low)), ceil(log10(self.high)) + 1) for m in (1, 2, 5)]
            inside = [mark for mark in marks if self.low <= mark <= self.high]
            tens = [mark for mark in inside if round(log10(mark), 9) % 1 == 0]
            return tens if len(inside) > 7 and len(tens) > 1 else inside
        raw = (self.high - self.low) / most or 1.0
        ten = 10.0 ** floor(log10(raw))
        step = next(ten * m for m in (1, 2, 2.5, 5, 10) if ten * m >= raw * 0.999)
        step = max(round(step), 1) if self.whole else step
        first = ceil(self.low / step - 1e-9)
        return [round(i * step, 12) for i in range(first, floor(self.high / step + 1e-9) + 1)]


def span(values: Iterable[float], log: bool = False, pad: float = 0.06) -> tuple[float, float]:
    """A range that holds the values with some air around them."""
    finite = [value for value in values if isfinite(value) and (value > 0 or not log)]
    if not finite:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = min(finite), max(finite)
    if log:
        air = (high / low) ** pad if high > low else 2.0
        return low / air, high * air
    air = (high - low) * pad or abs(high) * pad or 1.0
    return low - air, high + air


def focus(values: Sequence[float], more: bool) -> list[float]:
    """The values without hopeless ones, which would flatten all others; `more` says whether high ones are good.

    >>> focus([0.9, 0.91, 0.92, 0.93, 0.1], more=True)
    [0.93, 0.92, 0.91, 0.9]
    """
    ranked = sorted(values, reverse=more)
    if len(ranked) < 5:
        return ranked
    top, middle = ranked[0], ranked[len(ranked) // 2]
    far = top + (middle - top) * 4
    return [value for value in ranked if (value >= far if more else value <= far)] or ranked


def is_wide(values: Sequence[float]) -> bool:
    """Whether positive values differ so much that a logarithmic axis shows them better."""
    positive = [value for value in values if value > 0]
    return bool(positive) and len(positive) == len(values) and max(positive) / min(positive) > 6


def horizontal(low: float, high: float, log: bool = False, whole: bool = False) -> Axis:
    """The x axis of a chart."""
    return Axis(low, high, LEFT, WIDTH - RIGHT, log, whole)


def vertical(low: float, high: float, log: bool = False) -> Axis:
    """The y axis of a chart, growing upwards."""
    return Axis(low, high, HEIGHT - BOTTOM, TOP, log)


def frame(x: Axis, y: Axis, x_name: str, y_name: str) -> str:
    """Grid, tick labels and the names of both axes."""
    parts = []
    for tick, said in _told(y.ticks()):
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{y.at(tick)}" y2="{y.at(tick)}"/>')
        parts.append(text(x.start - 6, y.at(tick) + 4, said, "tick", "end"))
    for tick, said in _told(x.ticks()):
        parts.append(f'<line class="mark" x1="{x.at(tick)}" x2="{x.at(tick)}" y1="{y.start}" y2="{y.start + 4}"/>')
        parts.append(text(x.at(tick), y.start + 16, said, "tick", "middle"))
    parts.append(f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{y.start}" y2="{y.start}"/>')
    parts.append(text((x.start + x.end) / 2, HEIGHT - 6, x_name, "name", "middle"))
    parts.append(text(x.start - LEFT + 2, 9, y_name, "name", "start"))
    return "".join(parts)


def _told(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Every tick with its label, and as many digits as tell them apart.

    >>> _told([0.942, 0.9425, 0.943])
    [(0.942, '0.9420'), (0.9425, '0.9425'), (0.943, '0.9430')]
    """
    said = [figure(tick) for tick in ticks]
    for digits in range(10):
        if len(set(said)) == len(said):
            break
        said = [f"{tick:.{digits}f}" for tick in ticks]
    return list(zip(ticks, said, strict=True))


def text(x: float, y: float, words: str, style: str, anchor: str = "start") -> str:
    """Words at a place."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(points: Iterable[tuple[float, float]], style: str, tip: str = "", number: int | None = None) -> str:
    """A line through points in pixels; `number` is the trial that it is of."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline class="{style}"{_of(number)} points="{path}">{title(tip)}</polyline>'


def dot(x: float, y: float, radius: float, style: str, tip: str = "", number: int | None = None) -> str:
    """A round mark that tells `tip` when pointed at; `number` is the trial that it is of."""
    return f'<circle class="{style}"{_of(number)} cx="{x:g}" cy="{y:g}" r="{radius:g}">{title(tip)}</circle>'


SHAPES = {
    "down": "m-4.2-3.4h8.4l-4.2 7.2z",
    "cross": "m-3.6-3.6l7.2 7.2m0-7.2l-7.2 7.2",
    "dash": "m-4.2 0h8.4",
}
"""The outlines of marks that are not round, about the point that they stand for."""


def sign(shape: str, at: tuple[float, float], style: str, tip: str = "", number: int | None = None) -> str:
    """A mark of one of the `SHAPES`."""
    path = f"M{at[0]:g} {at[1]:g}{SHAPES[shape]}"
    return f'<path class="{style}"{_of(number)} d="{path}">{title(tip)}</path>'


def _of(number: int | None) -> str:
    """What ties the marks of one trial together, in all pictures of a page."""
    return "" if number is None else f' data-n="{number}"'


def box(place: tuple[float, float, float, float], style: str, tip: str = "", opacity: float = 1.0) -> str:
    """A rectangle: x, y, width, height."""
    x, y, width, height = place
    shade = f' fill-opacity="{opacity:.3f}"' if opacity < 1 else ""
    return (
        f'<rect class="{style}" x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{max(height, 0):.2f}"'
        f"{shade}>{title(tip)}</rect>"
    )


def title(tip: str) -> str:
    """What a mark tells when pointed at."""
    return f"<title>{escape(tip)}</title>" if tip else ""


def svg(label: str, content: str, height: float = HEIGHT, width: float = WIDTH, style: str = "chart") -> str:
    """The whole picture; `label` is what a screen reader says. One of style "strip" is stretched to its place."""
    stretch = ' preserveAspectRatio="none"' if style == "strip" else ""
    said = escape(label, quote=True)
    shape = f'class="{style}" viewBox="0 0 {width:g} {height:g}"{stretch}'
    return f'<svg {shape} role="img" aria-label="{said}">{content}</svg>'
