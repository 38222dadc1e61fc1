"""Draws how a search came on: every trial in its order, how it ended, and the best by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelmill.evaluate.charts.axes import HEIGHT, Axis, dot, focus, frame, horizontal, line, sign, span, svg, vertical
from modelmill.evaluate.words import figure, words
from modelmill.trial import State

EDGE = 14
"""The room for marks of trials that have no value."""

SHAPES = {"failed": "cross", "refused": "dash", "stopped": "down"}


@dataclass(frozen=True)
class Step:
    """One trial of the picture."""

    number: int
    value: float | None
    """Its quality, or what it had reached; None where nothing is known of it."""
    state: State
    kept: bool
    tint: int
    tip: str
    winner: bool = False


def progress(steps: Sequence[Step], metric: str, more: bool) -> str:
    """Every trial's quality in order and the line of the best one so far that keeps the limits.

    Stopped ones are triangles where they had come to, failed ones crosses and refused ones dashes on the poor edge.
    """
    ordered = sorted(steps, key=lambda step: step.number)
    x = horizontal(ordered[0].number, max(ordered[-1].number, ordered[0].number + 1), whole=True)
    y = _upright([step.value for step in ordered if step.value is not None], more)
    content = [frame(x, y, "trial", words(metric))]
    path = [(x.at(number), y.at(value)) for number, value in _best(ordered, more)]
    if path:
        content.append(line([*path, (x.end, path[-1][1])], "front"))
    content += [_mark(step, x, y, more) for step in ordered]
    return svg(f"best {words(metric)} so far, trial by trial", "".join(content))


def _upright(values: Sequence[float], more: bool) -> Axis:
    """The y axis, with room on its poor side for trials that have no value."""
    low, high = span(focus(values, more))
    room = (high - low) * EDGE / (HEIGHT / 2)
    return vertical(low - room, high) if more else vertical(low, high + room)


def _best(steps: Sequence[Step], more: bool) -> list[tuple[int, float]]:
    """The corners of the line of the best so far."""
    corners: list[tuple[int, float]] = []
    for step in steps:
        if step.value is None or not step.kept:
            continue
        if not corners:
            corners.append((step.number, step.value))
        elif (step.value > corners[-1][1]) if more else (step.value < corners[-1][1]):
            corners += [(step.number, corners[-1][1]), (step.number, step.value)]
    return corners


def _mark(step: Step, x: Axis, y: Axis, more: bool) -> str:
    edge = (x.at(step.number), y.start - EDGE / 2 if more else y.end + EDGE / 2)
    shape = SHAPES.get(step.state, "dash")
    if step.value is None or step.state in ("failed", "refused"):
        return sign(shape, edge, f"ended {step.state}", step.tip, step.number)
    at = (edge[0], y.at(step.value))
    if step.state == "stopped":
        return sign(shape, at, f"ended stopped tint{step.tint}", step.tip, step.number)
    style = f"tint{step.tint} {step.state if step.state == 'running' else 'kept' if step.kept else 'missed'}"
    halo = dot(*at, 9, "halo") if step.winner else ""
    return halo + dot(*at, 4, style, step.tip, step.number)


def gained(volumes: Sequence[tuple[int, float]], last: int) -> str:
    """How the front gained with every trial that moved it: (trial, part of the box of objectives), up to `last`."""
    first = volumes[0][0]
    x = horizontal(min(first, 0), max(last, first + 1), whole=True)
    y = vertical(0.0, 1.08)
    points = [(x.at(first), y.at(0.0))]
    for number, share in volumes:
        points += [(x.at(number), points[-1][1]), (x.at(number), y.at(share))]
    points.append((x.end, points[-1][1]))
    marks = "".join(
        dot(x.at(number), y.at(share), 3.5, "past", f"trial {number}: {figure(100 * share)} %", number)
        for number, share in volumes
    )
    drawn = frame(x, y, "trial", "hypervolume of the front")
    return svg("hypervolume of the front, trial by trial", drawn + line(points, "front") + marks)
