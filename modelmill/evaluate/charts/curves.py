"""Draws how training went on: values over epochs, where folds and compression began, and where trials were stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from modelmill.evaluate.charts.axes import (
    Axis,
    dot,
    frame,
    horizontal,
    is_wide,
    line,
    sign,
    span,
    svg,
    text,
    vertical,
)
from modelmill.evaluate.words import figure

ROOM = 66
"""What a word beside a line takes."""


@dataclass(frozen=True)
class Course:
    """One line of the picture."""

    name: str
    style: str
    """`first` and `second` are told apart by color; `faint` ones are the background, of other trials."""
    points: Sequence[tuple[float, float]]
    number: int | None = None
    """Of its trial."""
    stopped: str = ""
    """Why it ends where it does, if it was stopped."""


def curves(courses: Sequence[Course], y_name: str, breaks: Sequence[tuple[float, str]] = ()) -> str:
    """Lines over epochs; `breaks` are where a fold, or compression, began its epochs anew, each with a word for it."""
    clean = [(course, [point for point in course.points if isfinite(point[1])]) for course in courses]
    clean = [(course, points) for course, points in clean if points]
    every = [point for _, points in clean for point in points]
    values = [value for _, value in every]
    log = y_name == "loss" and is_wide(values)
    x = horizontal(min(step for step, _ in every), max(max(step for step, _ in every), 2), whole=True)
    y = vertical(*span(_told(clean) or values, log), log)
    content = [frame(x, y, "epoch", y_name), *_breaks(x, y, breaks)]
    for course, points in clean:
        path = [(x.at(step), y.at(value)) for step, value in points]
        content.append(line(path, f"curve {course.style}", course.name, course.number))
    content += [_end(x, y, course, points[-1]) for course, points in clean]
    return svg(f"{y_name} over epochs", "".join(content))


def _told(clean: Sequence[tuple[Course, Sequence[tuple[float, float]]]]) -> list[float]:
    """The values that the y axis is laid for: not those of other trials, nor of the very first epochs among them."""
    if not any(course.style == "faint" for course, _ in clean):
        return []
    own = [points for course, points in clean if course.style != "faint"]
    return [value for points in own for _, value in points[len(points) // 10 :]]


def _breaks(x: Axis, y: Axis, breaks: Sequence[tuple[float, str]]) -> list[str]:
    """A line for each, with its word where there is room for it."""
    drawn, free = [], x.start
    for at, word in breaks:
        drawn.append(f'<line class="break" x1="{x.at(at)}" x2="{x.at(at)}" y1="{y.start}" y2="{y.end}"/>')
        if x.at(at) >= free and x.at(at) + ROOM <= x.end:
            drawn.append(text(x.at(at) + 3, y.end + 6, word, "tick"))
            free = x.at(at) + ROOM
    return drawn


def _end(x: Axis, y: Axis, course: Course, point: tuple[float, float]) -> str:
    """The mark at the end of a line: a dot with its last value, or a triangle with why it was stopped."""
    at = (x.at(point[0]), y.at(point[1]))
    if course.stopped:
        return sign("down", at, "ended stopped", f"{course.name} {course.stopped}", course.number)
    if course.style == "faint":
        return ""
    return dot(*at, 3.5, course.style, f"{course.name}: {figure(point[1])} at the end", course.number)
