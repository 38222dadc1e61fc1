"""Prometheus' text format: one line a sample, with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate

Labels = tuple[tuple[str, str], ...]


def buckets(name: str, labels: Labels, bounds: Sequence[float], values: Sequence[float]) -> list[str]:
    """The cumulative buckets, the sum and the count of a histogram.

    values: (bounds + 2,): how many in each bucket, the last one above all bounds; then the sum.

    >>> buckets("rows", (), (1, 2), [3.0, 0.0, 1.0, 8.0])[2:]
    ['rows_bucket{le="+Inf"} 4', 'rows_sum 8.0', 'rows_count 4']
    """
    totals = [int(total) for total in accumulate(values[:-1])]
    inner = _inner(labels)  # once for all lines: of a thousand models there are 150,000
    start = f'{name}_bucket{{{inner}{"," if inner else ""}le="'
    lines = [f'{start}{bound}"}} {total}' for bound, total in zip(_named(tuple(bounds)), totals, strict=True)]
    return [*lines, _line(f"{name}_sum", inner, values[-1]), _line(f"{name}_count", inner, totals[-1])]


@cache
def _named(bounds: tuple[float, ...]) -> list[str]:
    """The bounds as labels have them, and the last bucket's."""
    return [*(f"{bound:g}" for bound in bounds), "+Inf"]


def head(name: str, type: str, meaning: str) -> tuple[str, str]:
    """The two lines before the samples of a figure."""
    return f"# HELP {name} {meaning}", f"# TYPE {name} {type}"


def gauge(name: str, meaning: str, value: float) -> list[str]:
    """A figure that has one value now."""
    return [*head(name, "gauge", meaning), sample(name, (), value)]


def sample(name: str, labels: Labels, value: float) -> str:
    """One line of the text format.

    >>> sample("rows", (("model", 'a"b'),), 2)
    'rows{model="a\\\\"b"} 2'
    """
    return _line(name, _inner(labels), value)


def _inner(labels: Labels) -> str:
    """Labels as they stand in the braces."""
    return ",".join(f'{key}="{_escape(text)}"' for key, text in labels)


def _line(name: str, inner: str, value: float) -> str:
    return f"{name}{{{inner}}} {_number(value)}" if inner else f"{name} {_number(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
