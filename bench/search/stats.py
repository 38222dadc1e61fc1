"""Whether methods differ over many problems: mean ranks, Friedman, Wilcoxon after Holm, critical-difference diagram.

Runs are paired by problem and seed; lower is better. The methods are ranked in each pair (ties share), the mean over
the seeds of a problem is a method's score on it, and problems are what the tests count: seeds of one problem are no
independent evidence. Demšar (2006), JMLR 7; Benavoli et al. (2016), JMLR 17, for Wilcoxon after Friedman.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

Pair = tuple[str, Hashable]
"""A problem and a seed."""

LEVEL = 0.05

EQUAL_DIGITS = 9
"""Results that agree to so many significant digits are equal."""


@dataclass(frozen=True)
class Comparison:
    """What came of comparing some methods."""

    methods: tuple[str, ...]
    """From the best mean rank to the worst."""
    ranks: np.ndarray
    """(methods,) mean ranks."""
    per_problem: np.ndarray
    """(problems, methods) mean rank over the seeds of each problem."""
    problems: tuple[str, ...]
    pairs: int
    friedman_p: float
    holm: Mapping[tuple[str, str], float]
    """Wilcoxon's signed-rank p of every pair of methods over the problems, after Holm."""
    critical: float
    """Nemenyi's critical difference of mean ranks."""
    intervals: np.ndarray
    """(methods, 2) 95 % bootstrap intervals of the mean ranks, over problems."""

    @property
    def about(self) -> str:
        """What it rests on."""
        return f"{len(self.problems)} problems, {self.pairs} runs of each of {len(self.methods)} methods"


def compare(scores: Mapping[str, Mapping[Pair, float]]) -> Comparison | None:
    """Compare methods over the pairs that all of them have; None where they share fewer than two problems."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    shared = sorted(set.intersection(*(set(found) for found in scores.values())), key=str)
    problems = tuple(dict.fromkeys(problem for problem, _ in shared))
    names = list(scores)
    if len(problems) < 2 or len(names) < 2:
        return None
    values = np.array([[_rounded(scores[name][pair]) for name in names] for pair in shared])
    ranks = rankdata(values, axis=1)
    of = np.array([problems.index(problem) for problem, _ in shared])
    per_problem = np.array([ranks[of == i].mean(0) for i in range(len(problems))])
    order = np.argsort(per_problem.mean(0), kind="stable")
    per_problem, names = per_problem[:, order], [names[i] for i in order]
    count = len(names)
    friedman = float(friedmanchisquare(*per_problem.T).pvalue) if count > 2 else float("nan")
    q = float(studentized_range.ppf(1 - LEVEL, count, np.inf)) / np.sqrt(2)
    return Comparison(
        tuple(names),
        per_problem.mean(0),
        per_problem,
        problems,
        len(shared),
        friedman,
        holm({(names[i], names[j]): signed_rank(per_problem[:, i], per_problem[:, j]) for i, j in _pairs(count)}),
        float(q * np.sqrt(count * (count + 1) / (6 * len(problems)))),
        bootstrap(per_problem),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{EQUAL_DIGITS}g}")


def _pairs(count: int) -> list[tuple[int, int]]:
    return list(combinations(range(count), 2))


def signed_rank(first: np.ndarray, second: np.ndarray) -> float:
    """Wilcoxon's two-sided p of paired scores; 1 where they are all equal.

    >>> round(signed_rank(np.arange(8.0), np.arange(8.0) + np.arange(1, 9)), 4)
    0.0078
    """
    from scipy.stats import wilcoxon

    difference = np.round(np.asarray(first) - np.asarray(second), EQUAL_DIGITS)
    return float(wilcoxon(difference).pvalue) if difference.any() else 1.0


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Adjusted p-values: the smallest times how many there are, the next times one less, never falling.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    found: dict[Any, float] = {}
    highest = 0.0
    for i, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, p_values[name] * (len(p_values) - i)))
        found[name] = highest
    return found


def bootstrap(values: np.ndarray, draws: int = 2000) -> np.ndarray:
    """95 % intervals of the means of columns, rows drawn again."""
    draw = np.random.default_rng(0)
    means = np.array([values[draw.integers(0, len(values), len(values))].mean(0) for _ in range(draws)])
    return np.quantile(means, [0.025, 0.975], axis=0).T


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, and its 95 % bootstrap interval."""
    low, high = bootstrap(np.asarray(values, float)[:, None])[0]
    return float(np.mean(values)), float(low), float(high)


def alike(comparison: Comparison) -> list[tuple[int, int]]:
    """Runs of neighbours in rank, first and last, none of which differs from another after Holm; the longest only."""
    names = comparison.methods
    runs = [
        (i, j)
        for i, j in _pairs(len(names))
        if all(comparison.holm[names[a], names[b]] >= LEVEL for a, b in combinations(range(i, j + 1), 2))
    ]
    return [(i, j) for i, j in runs if not any(a <= i and j <= b and (a, b) != (i, j) for a, b in runs)]


def text(comparison: Comparison, each: bool = False) -> str:
    """The comparison in lines; with the mean rank on each problem, if asked."""
    lines = [f"  Friedman p = {comparison.friedman_p:.2g}, Nemenyi's critical difference {comparison.critical:.2f}"]
    for name, rank, (low, high) in zip(comparison.methods, comparison.ranks, comparison.intervals, strict=True):
        lines.append(f"  {name:<14} mean rank {rank:.2f} ({low:.2f} to {high:.2f})")
    best = comparison.methods[0]
    for (first, second), p in comparison.holm.items():
        if first == best or p < LEVEL:
            lines.append(f"  {first} and {second}: {'differ' if p < LEVEL else 'do not differ'}, Holm p = {p:.3g}")
    if each:
        lines.append(f"  {'':<24}" + "".join(f"{name:>14}" for name in comparison.methods))
        for problem, ranks in zip(comparison.problems, comparison.per_problem, strict=True):
            lines.append(f"  {problem:<24}" + "".join(f"{rank:>14.2f}" for rank in ranks))
    return "\n".join(lines)


def diagram(comparison: Comparison, width: int = 640) -> str:
    """The critical-difference diagram as SVG: methods on an axis of ranks, a bar over those that do not differ."""
    count, bars = len(comparison.methods), alike(comparison)
    left, right, axis = 150, width - 150, 46
    first_row = axis + 26 + 12 * len(bars)
    half = (count + 1) // 2
    height = first_row + 22 * half + 10

    def at(rank: float) -> float:
        return left + (right - left) * (rank - 1) / (count - 1)

    parts = [
        _line(left, axis, right, axis),
        *(_line(at(rank), axis - 5, at(rank), axis) for rank in range(1, count + 1)),
        *(_label(at(rank), axis - 9, str(rank), "middle") for rank in range(1, count + 1)),
        _line(left, 16, left + (right - left) * comparison.critical / (count - 1), 16, 2),
        _label(left, 11, f"CD = {comparison.critical:.2f} (Nemenyi, 5 %); bars: Wilcoxon after Holm", "start"),
    ]
    for i, (name, rank) in enumerate(zip(comparison.methods, comparison.ranks, strict=True)):
        row = first_row + 22 * (i if i < half else count - 1 - i)
        end, side = (left - 10, "end") if i < half else (right + 10, "start")
        parts += [_line(at(rank), axis, at(rank), row), _line(at(rank), row, end, row)]
        parts.append(_label(end + (-4 if i < half else 4), row + 4, f"{name} {rank:.2f}", side))
    for i, (first, last) in enumerate(bars):
        y = axis + 12 + 12 * i
        parts.append(_line(at(comparison.ranks[first]) - 4, y, at(comparison.ranks[last]) + 4, y, 4))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="currentColor" stroke="none">\n{body}\n</svg>\n'
    )


def _line(x1: float, y1: float, x2: float, y2: float, wide: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="currentColor" stroke-width="{wide}"/>'


def _label(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
