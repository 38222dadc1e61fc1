"""Draws where a model errs: the confusion of classes, or predicted against actual values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelmill.evaluate.charts.axes import WIDTH, Axis, box, dot, frame, horizontal, line, span, svg, text, vertical
from modelmill.evaluate.words import figure

MOST = 26
"""Classes that a matrix can show; beyond it the worst pairs say more."""
LETTER = 6.4
"""About the width of a small letter."""


def matrix(classes: Sequence[Any], counts: Sequence[Sequence[int]]) -> str:
    """Rows are what it was, columns what the model said; shades are shares of the row."""
    names = [_short(str(name)) for name in classes]
    left = 22 + LETTER * max(len(name) for name in names)
    steep = max(len(name) for name in names) > 3
    top = 24 + (LETTER * 0.75 * max(len(name) for name in names) if steep else 8)
    cell = (WIDTH - left - 4) / len(names)
    cell = min(cell, 64.0)
    parts = [text(left, 10, "said", "name"), text(2, top - 6, "was", "name")]
    for i, name in enumerate(names):
        parts.append(text(left - 5, top + (i + 0.5) * cell + 4, name, "tick", "end"))
        parts.append(_heading(left + (i + 0.5) * cell, top - 6, name, steep))
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            parts.append(_cell((left + j * cell, top + i * cell, cell), count, sum(row), i == j))
            parts.append(_tip((left + j * cell, top + i * cell, cell), count, (str(classes[i]), str(classes[j]))))
    return svg("confusion of classes", "".join(parts), height=top + cell * len(names) + 4)


def _heading(x: float, y: float, name: str, steep: bool) -> str:
    if not steep:
        return text(x, y, name, "tick", "middle")
    return f'<g transform="translate({x:.1f} {y:.1f}) rotate(-40)">{text(0, 0, name, "tick")}</g>'


def _cell(place: tuple[float, float, float], count: int, total: int, right: bool) -> str:
    x, y, size = place
    share = count / total if total else 0.0
    drawn = box((x, y, size - 1.5, size - 1.5), "cell")
    if count:
        # Single mistakes must still be seen among hundreds of right answers.
        depth = 0.12 + 0.83 * share if right else 0.25 + 0.75 * min(share * 4, 1.0)
        drawn += box((x, y, size - 1.5, size - 1.5), "right" if right else "wrong", opacity=depth)
    if count and size >= 15:
        strong = share > 0.45 if right else share > 0.12
        drawn += text(
            x + size / 2 - 0.75, y + size / 2 + 3.5, str(count), "count strong" if strong else "count", "middle"
        )
    return drawn


def _tip(place: tuple[float, float, float], count: int, pair: tuple[str, str]) -> str:
    x, y, size = place
    was, said = pair
    words = f"{count} rows of {was}, said {said}" if was != said else f"{count} rows of {was}, rightly said"
    return box((x, y, size, size), "touch", words)


def worst(classes: Sequence[Any], counts: Sequence[Sequence[int]], most: int = 4) -> list[tuple[str, str, int, int]]:
    """The pairs most often confused: what it was, what was said, how often, of how many.

    >>> worst(["a", "b"], [[5, 0], [2, 3]])
    [('b', 'a', 2, 5)]
    """
    pairs = [
        (str(classes[i]), str(classes[j]), int(count), int(sum(row)))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def scatter(predicted: Sequence[float], actual: Sequence[float]) -> str:
    """Predicted against actual values; on the diagonal the model is right."""
    low, high = span([*predicted, *actual])
    x, y = horizontal(low, high), vertical(low, high)
    dots = "".join(
        dot(x.at(a), y.at(p), 3, "pair", f"actual {figure(a)}, predicted {figure(p)}")
        for p, a in zip(predicted, actual, strict=True)
    )
    diagonal = line([(x.at(low), y.at(low)), (x.at(high), y.at(high))], "diagonal")
    return svg("predicted against actual values", frame(x, y, "actual", "predicted") + diagonal + dots)


def histogram(predicted: Sequence[float], actual: Sequence[float], bins: int = 21) -> str:
    """How far predictions are off, as counts; the middle bin is where they are right."""
    errors = np.asarray(predicted) - np.asarray(actual)
    reach = float(np.quantile(np.abs(errors), 0.99)) or 1.0
    counts, edges = np.histogram(np.clip(errors, -reach, reach), bins, (-reach, reach))
    x, y = horizontal(-reach, reach), vertical(0, float(max(counts.max(), 1)) * 1.06)
    bars = "".join(_bar(x, y, float(edges[i]), float(edges[i + 1]), int(count)) for i, count in enumerate(counts))
    middle = f'<line class="limit" x1="{x.at(0)}" x2="{x.at(0)}" y1="{y.start}" y2="{y.end}"/>'
    return svg("errors of the predictions", frame(x, y, "predicted - actual", "rows") + bars + middle)


def _bar(x: Axis, y: Axis, low: float, high: float, count: int) -> str:
    tip = f"{count} rows off by {figure(low)} to {figure(high)}"
    return box((x.at(low) + 0.5, y.at(count), x.at(high) - x.at(low) - 1, y.start - y.at(count)), "bar", tip)


def _short(name: str, most: int = 14) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
