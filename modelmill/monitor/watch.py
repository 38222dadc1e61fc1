"""Tells which columns and outputs of a model are no longer as they were when it was published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from modelmill.contracts import Array, Outputs
from modelmill.finding import Finding
from modelmill.monitor.aspects import aspects
from modelmill.monitor.chance import adjusted
from modelmill.monitor.reference import EFFECT, TESTS, Part, Reference, Watched, decoded
from modelmill.monitor.words import words

LEVEL = 0.01
"""Of the columns that are told of, so many are told of by mere chance, at the most."""

SMALLEST = 0.1
"""The stability index below which a move is not worth a word, however sure it is."""

LARGE = 0.25
"""The stability index from which a move is a warning."""

FEWEST = 100
"""Rows that a window must hold: fewer tell little."""

SUCH = 3
"""So many new values are named."""

Window = tuple[Mapping[str, Array], Outputs]
"""Columns of rows, and the model's answers to them."""


@dataclass(frozen=True)
class Evidence:
    """How one aspect of a column or output compares: p-value, size of the move, and the detector's figures."""

    watched: Watched
    aspect: str
    p: float
    effect: float
    figures: Mapping[str, Any]


def watch(
    reference: bytes,
    windows: Iterable[Window],
    level: float = LEVEL,
    smallest: float = SMALLEST,
    fewest: int = FEWEST,
) -> Iterator[Finding]:
    """A finding for every column and output that drifts in a window, the farthest moved first.

    What is told is both hardly chance (p-values corrected over everything that is watched) and large enough to
    matter. A window of too few rows gives a note that says so.
    """
    known = decoded(reference)
    for number, (columns, outputs) in enumerate(windows, start=1):
        rows = len(next(iter(columns.values())))
        if rows < fewest:
            yield _too_few(number, rows, fewest)
            continue
        for evidence in drifted(known, columns, outputs, level, smallest):
            yield _told(evidence, number, rows)


def drifted(
    known: Reference, columns: Mapping[str, Array], outputs: Outputs, level: float, smallest: float
) -> list[list[Evidence]]:
    """For each column or output that drifts, the aspects that do; the farthest moved first."""
    found = [item for watched in known.watched for item in compared(watched, columns, outputs)]
    chances = adjusted([item.p for item in found])
    sure = [
        Evidence(item.watched, item.aspect, chance, item.effect, item.figures)
        for item, chance in zip(found, chances, strict=True)
        if chance <= level and item.effect >= smallest
    ]
    groups = [_farthest_first(list(group)) for _, group in groupby(sure, key=lambda item: id(item.watched))]
    return sorted(groups, key=lambda group: -group[0].effect)


def _farthest_first(items: Sequence[Evidence]) -> list[Evidence]:
    return sorted(items, key=lambda item: -item.effect)


def compared(watched: Watched, columns: Mapping[str, Array], outputs: Outputs) -> Iterator[Evidence]:
    """Every aspect of a column or output, compared with its reference."""
    side = columns if watched.place == "column" else outputs
    arrays = aspects(watched.kind, side[watched.name])
    for part in watched.parts:
        if part.aspect == "unseen":
            yield _unseen(watched, part, arrays["values"])
        else:
            yield _compared(watched, part, arrays[part.aspect], {})


def _unseen(watched: Watched, part: Part, values: Array) -> Evidence:
    counts = next(other.state for other in watched.parts if other.aspect == "values")["counts"]
    new = np.array([str(value) not in counts for value in values.tolist()], bool)
    if new.mean() <= part.state["hits"] / max(1, part.state["rows"]):
        return Evidence(watched, part.aspect, 1.0, 0.0, {})  # fewer new values than expected are no drift
    such = sorted({str(value) for value in values[new].tolist()})[:SUCH]
    return _compared(watched, part, new, {"such": such})


def _compared(watched: Watched, part: Part, window: Array, more: Mapping[str, Any]) -> Evidence:
    _, tested = TESTS[part.test].step(part.state, window)
    _, moved = EFFECT.step(part.effect, window)
    if tested is None or moved is None:
        return Evidence(watched, part.aspect, 1.0, 0.0, {})
    return Evidence(watched, part.aspect, tested.figures["p"], moved.figures["psi"], {**tested.figures, **more})


def _told(group: Sequence[Evidence], number: int, rows: int) -> Finding:
    watched, effect = group[0].watched, group[0].effect
    message = "; ".join(words(watched.kind, item.aspect, item.figures) for item in group)
    figures = {"window": number, "rows": rows, "effect": effect, "p": min(item.p for item in group)}
    details = {item.aspect: {**item.figures, "effect": item.effect, "p": item.p} for item in group}
    large = effect >= LARGE and watched.kind != "date"
    return Finding(
        check="drift",
        severity="warning" if large else "note",
        where=f"{watched.place} {watched.name}",
        message=message,
        hint=_hint(watched),
        figures={**figures, "aspects": details},
    )


def _hint(watched: Watched) -> str:
    if watched.kind == "date":
        return "Dates move on by themselves: what matters is whether answers changed too."
    if watched.place == "output":
        return "Evaluate the model on new rows with the truth."
    return "Look at what fills the column; where the change is real, build again with new rows."


def _too_few(number: int, rows: int, fewest: int) -> Finding:
    message = f"{rows} rows are too few to tell; at least {fewest} are wanted"
    return Finding("rows", "note", f"window {number}", message, "Give more rows.", {"window": number, "rows": rows})
