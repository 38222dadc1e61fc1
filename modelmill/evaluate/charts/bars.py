"""Draws bars, gauges and whiskers: one line of a table each."""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.evaluate.charts.axes import WIDTH, box, dot, svg, text


def bars(items: Sequence[tuple[str, float, str]], label: str, style: str = "bar") -> str:
    """Horizontal bars, each `(name, value, words)`, the name above its bar so that long names fit a phone."""
    most = max((value for _, value, _ in items), default=0) or 1.0
    parts = []
    for i, (name, value, words) in enumerate(items):
        top = 34 * i
        parts.append(text(0, top + 12, name, "item"))
        parts.append(text(WIDTH, top + 12, words, "tick", "end"))
        parts.append(box((0, top + 18, WIDTH, 7), "track"))
        parts.append(box((0, top + 18, WIDTH * value / most, 7), style, f"{name}: {words}"))
    return svg(label, "".join(parts), height=34 * max(len(items), 1))


def gauge(value: float, limit: float, kept: bool, floor: bool, tip: str) -> str:
    """How much of a limit is used: the mark is the limit."""
    scale = 160 / max(value, limit) if max(value, limit) > 0 else 0.0
    at = limit * scale
    return svg(
        tip,
        box((0, 3, 160, 8), "track")
        + box((0, 3, value * scale, 8), "good" if kept else "bad", tip)
        + box((min(at, 158) if not floor else at, 0, 2, 14), "mark2"),
        height=14,
        width=160,
        style="strip",
    )


def pair(value: float, baseline: float, tip: str) -> str:
    """Two thin bars, this model above its uncompressed self."""
    most = max(value, baseline) or 1.0
    return svg(
        tip,
        box((0, 1, 160 * value / most, 6), "bar", tip) + box((0, 9, 160 * baseline / most, 6), "base", tip),
        height=16,
        width=160,
    )


def counts(items: Sequence[tuple[str, float, str]], label: str) -> str:
    """Thin bars, name, bar and words on one line: for many short names."""
    most = max((value for _, value, _ in items), default=0) or 1.0
    left = min(12 + 7 * max((len(name) for name, _, _ in items), default=0), 150)
    parts = []
    for i, (name, value, words) in enumerate(items):
        top = 21 * i
        parts.append(text(left - 8, top + 13, name if len(name) <= 20 else name[:19] + "…", "tick", "end"))
        parts.append(box((left, top + 4, (WIDTH - 56 - left) * value / most, 11), "bar", f"{name}: {words}"))
        parts.append(text(WIDTH, top + 13, words, "tick", "end"))
    return svg(label, "".join(parts), height=21 * max(len(items), 1))


def whisker(
    value: float, interval: tuple[float, float], baseline: float | None, within: tuple[float, float], tip: str
) -> str:
    """A figure with its interval on a scale, and the baseline as a hollow mark."""
    low, high = within
    reach = high - low or 1.0

    def at(number: float) -> float:
        return round(6 + 148 * min(max((number - low) / reach, 0.0), 1.0), 2)

    start, end = (at(bound) for bound in interval)
    return svg(
        tip,
        box((6, 7.5, 148, 1), "track")
        + box((start, 6.5, max(end - start, 1), 3), "whisker", tip)
        + (dot(at(baseline), 8, 4.5, "hollow", tip) if baseline is not None else "")
        + dot(at(value), 8, 4.5, "bar", tip),
        height=16,
        width=160,
    )
