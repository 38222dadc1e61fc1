"""Rows at random for a graph from outside: its answers to them tell what one made-up row does not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.graph.origin import Origin
from modelmill.runtime.probe import Found
from modelmill.runtime.session import Session

SCALES = (1, 10, 100)
"""How far from the made-up row the others lie."""

TRIES = 16
"""Calls with rows of each scale."""

SUM = 1e-3
"""How far from 1 the sum of probabilities may be."""

PAIRS = 2
"""Pairs of rows of each scale that are asked alone and together."""
NEAR = 0.01
"""By such a part of the largest number in both answers they may differ by rounding alone."""
NEAR_SCALED = 0.05
"""The same where a graph scales its numbers anew in every call, to what is largest in it."""
SECONDS = 2.0
"""Once so much time was spent, no further pair is asked."""


def tries(session: Session, found: Found) -> Iterator[dict[str, Array]]:
    """The answers to random rows, call by call, near ones and far ones by turns; calls that fail are left out.

    What is one value for a whole call, and texts, stay as they were when it ran.
    """
    random = np.random.default_rng(0)
    for scale in SCALES * TRIES:
        given = {
            name: values if found.axes[name] is None else _others(values, scale, random)
            for name, values in found.given.items()
        }
        try:
            yield session.run(given)
        except ModelError:
            continue


def _others(values: Array, scale: int, random: np.random.Generator) -> Array:
    """Random values in the place of those of an input."""
    if values.dtype.kind == "f":
        return np.asarray(values + random.normal(size=values.shape) * scale, values.dtype)
    if values.dtype.kind == "b":
        return np.asarray(random.random(values.shape) < 0.5)
    if values.dtype.kind in "iu":
        most = min(scale, np.iinfo(values.dtype).max)
        return np.asarray(random.integers(0, most, values.shape, endpoint=True), values.dtype)
    return values


def are_probabilities(values: Array) -> bool:
    """Whether rows of one number or of one a class may all be probabilities.

    >>> are_probabilities(np.array([[0.25, 0.75], [0.5, 0.5]])), are_probabilities(np.array([[0.7, 0.9]]))
    (True, False)
    """
    inside = bool((values >= 0).all() and (values <= 1).all())
    return inside and (values.shape[-1] == 1 or bool((np.abs(values.sum(axis=-1) - 1) <= SUM).all()))


def judged(session: Session, found: Found, name: str, made: Origin) -> tuple[bool, str]:
    """Whether an output holds probabilities, and how that is known: by what makes them, or else by random rows."""
    if np.isfinite(found.gave[name]).all() and not are_probabilities(found.gave[name]):
        return False, "the made-up row has none"
    if made.by and (found.gave[name].shape[-1] == 1 or not made.apart):
        return True, f"they come from {made.by}"
    count = 0
    for answers in tries(session, found):
        values = answers[name]
        if not np.isfinite(values).all():
            continue
        if not are_probabilities(values):
            return False, "random rows have none"
        count += 1
    return (True, f"{count} random calls all gave some") if count else (False, "no random row ran")


def check_numbers(session: Session, found: Found) -> None:
    """Refuse a graph of which an output is NaN throughout, for the made-up row and for every random one that runs."""
    lost = {name for name, values in found.gave.items() if _is_lost(values)}
    count = 0
    for answers in tries(session, found) if lost else ():
        count += 1
        lost = {name for name in lost if _is_lost(answers[name])}
        if not lost:
            return
    if lost and count:
        message = f"the output {min(lost)[:80]!r} is NaN for the made-up row and in {count} calls with random ones"
        hint = "Training went astray: export an earlier checkpoint, or give a row that it answers with --example."
        raise ModelError("the model", message, hint)


def _is_lost(values: Array) -> bool:
    return values.dtype.kind == "f" and values.size > 0 and bool(np.isnan(values).all())


def are_coupled(session: Session, found: Found, near: float = NEAR) -> bool:
    """Whether the answer to a row depends on the others of its call: random rows are asked alone, and in pairs.

    near: as a part of the largest number in both answers, what they may differ by all the same.
    """
    names = [name for name in found.gave if found.axes[name] is not None]
    if found.rows >= 0 or not names:
        return False
    random, end, differ = np.random.default_rng(1), time.perf_counter() + SECONDS, 0
    for scale in SCALES * PAIRS:
        one, other = (
            {name: v if found.axes[name] is None else _others(v, scale, random) for name, v in found.given.items()}
            for _ in range(2)
        )
        try:
            alone = [session.run(given) for given in (one, other)]
            both = session.run({name: _pair(values, other[name], found.axes[name]) for name, values in one.items()})
        except ModelError:
            continue
        differ += not all(_agree(both[name], [a[name] for a in alone], found.axes[name], near) for name in names)
        if differ > 1 or time.perf_counter() > end:
            break
    return differ > 1


def _pair(one: Array, other: Array, axis: int | None) -> Array:
    return one if axis is None else np.concatenate((one, other), axis)


def _agree(both: Array, alone: Sequence[Array], axis: int | None, near: float) -> bool:
    """Whether the answer to two rows is that to each of them."""
    wanted = np.concatenate(alone, axis or 0)
    if both.shape != wanted.shape:
        return False
    if both.dtype.kind != "f":
        return bool((both == wanted).all())
    finite = np.isfinite(both) & np.isfinite(wanted)
    if not finite.any():
        return True
    most = max(float(np.abs(both[finite]).max()), float(np.abs(wanted[finite]).max()))
    return bool((np.abs(both[finite].astype(float) - wanted[finite]) <= near * most).all())
