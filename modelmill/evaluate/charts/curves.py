"""Draws how training and the search went on."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from modelmill.evaluate.charts.axes import dot, frame, horizontal, is_wide, line, span, svg, vertical
from modelmill.evaluate.words import figure, words

Points = Sequence[tuple[float, float]]


def curves(series: Sequence[tuple[str, str, Points]], y_name: str, breaks: Sequence[float] = ()) -> str:
    """Lines over epochs, each `(name, style, points)`; `breaks` are where compression went on with the training."""
    clean = [(name, style, [point for point in points if isfinite(point[1])]) for name, style, points in series]
    every = [point for _, _, points in clean for point in points]
    values = [value for _, value in every]
    log = y_name == "loss" and is_wide(values)
    x = horizontal(min(step for step, _ in every), max(max(step for step, _ in every), 2), whole=True)
    y = vertical(*span(_told(clean) or values, log), log)
    content = [frame(x, y, "epoch", y_name)]
    for at in breaks:
        content.append(f'<line class="limit" x1="{x.at(at)}" x2="{x.at(at)}" y1="{y.start}" y2="{y.end}"/>')
    for name, style, points in clean:
        if points:
            content.append(line([(x.at(step), y.at(value)) for step, value in points], f"curve {style}", name))
    for name, style, points in clean:
        if style != "faint" and points:
            step, value = points[-1]
            content.append(dot(x.at(step), y.at(value), 3.5, style, f"{name}: {figure(value)} at the end"))
    return svg(f"{y_name} over epochs", "".join(content))


def _told(series: Sequence[tuple[str, str, Points]]) -> list[float]:
    """The values that the y axis is laid for: not those of other trials, nor of the very first epochs among them."""
    if not any(style == "faint" for _, style, _ in series):
        return []
    own = [points for _, style, points in series if style != "faint"]
    return [value for points in own for _, value in points[len(points) // 10 :]]


def progress(values: Sequence[tuple[int, float, bool, str]], metric: str, higher: bool) -> str:
    """Every trial's quality in order, `(number, value, kept, tip)`, and the line of the best kept one so far."""
    ordered = sorted(values)
    x = horizontal(ordered[0][0], max(ordered[-1][0], ordered[0][0] + 1), whole=True)
    ranked = sorted((value for _, value, _, _ in ordered), reverse=higher)
    y = vertical(*span(ranked[: max(len(ranked) * 3 // 4, 2)]))
    best: list[tuple[float, float]] = []
    for number, value, kept, _ in ordered:
        if not kept:
            continue
        top = value if not best else (max if higher else min)(best[-1][1], value)
        if best:
            best.append((number, best[-1][1]))
        best.append((number, top))
    marks = "".join(
        dot(x.at(number), y.at(value), 3.5, "past" if kept else "past missed", tip)
        for number, value, kept, tip in ordered
    )
    best_line = line([(x.at(number), y.at(value)) for number, value in best], "front")
    label = f"best {words(metric)} so far, trial by trial"
    return svg(label, frame(x, y, "trial", words(metric)) + best_line + marks)
