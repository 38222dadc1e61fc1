"""How trials compare at one point of their courses, with several objectives and with limits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from modelmill.history import Curve
from modelmill.search.pareto import hypervolume
from modelmill.search.past import crowding, fronts

At = tuple[int, int]
"""Folds finished, and steps of the present one."""

Losses = tuple[float, ...]

FEW = 24
"""Up to so many points of a front, the hypervolume that each adds is worked out; beyond, the room around it."""


LEAST, NEAR = 3, 8
"""Finished trials that must have come to a point before a stopped one is compared with them; so many of them count."""


def stood(curve: Curve, at: At) -> tuple[Losses, float] | None:
    """What a trial had reached by a point, and by how much it missed limits then; None where it did not get there.

    In the steps of a fold the best so far counts, since training keeps it; one that ended earlier counts with that.
    After a fold it is the quality over all folds so far.
    """
    folds, step = at
    if folds and not step:
        found = [i for i, place in enumerate(curve.at) if place == at]
    else:
        found = [i for i, place in enumerate(curve.at) if place[0] == folds and (place[1] or not folds)]
        if not curve.ended and (not found or curve.at[found[-1]][1] < step):
            return None
        found = [i for i in found if curve.at[i][1] <= step]
    if not found:
        return None
    losses = tuple(min(values) for values in zip(*(curve.losses[i] for i in found), strict=True))
    return None if any(math.isnan(loss) for loss in losses) else (losses, curve.misses[found[-1]])


def ranked(standings: Sequence[tuple[Losses, float]]) -> list[int]:
    """The places of standings in their order, best first.

    First those that miss no limit: by their loss, with several objectives front by front, and in a front by the
    hypervolume that each adds to it; then the others, by how much they miss.
    """
    able = [i for i, (_, miss) in enumerate(standings) if miss == 0]
    missing = sorted((miss, i) for i, (_, miss) in enumerate(standings) if miss > 0)
    points = [standings[i][0] for i in able]
    found: list[int] = []
    for front in fronts(points) if points else []:
        worth = added([points[i] for i in front]) if len(points[0]) > 1 else [0.0] * len(front)
        found += [able[i] for _, i in sorted(zip((-w for w in worth), front, strict=True))]
    return [*found, *(i for _, i in missing)]


def added(points: Sequence[Losses]) -> list[float]:
    """The hypervolume that each point of a front adds to it, each objective scaled by the spread of the front.

    The reference lies a tenth of that behind the worst, so that the ends of a front count as well.

    Beume, Naujoks, Emmerich (2007), https://doi.org/10.1016/j.ejor.2006.08.008

    >>> [round(worth, 2) for worth in added([(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)])]
    [0.05, 0.25, 0.05]
    """
    if len(points) > FEW:
        return crowding(points)
    values = np.asarray(points, float)
    spread = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    rows, reference = scaled.tolist(), [1.1] * values.shape[1]
    whole = hypervolume(rows, reference)
    return [whole - hypervolume([*rows[:i], *rows[i + 1 :]], reference) for i in range(len(rows))]


def expected(curve: Curve, others: Sequence[Curve]) -> Losses | None:
    """The losses that a stopped trial would have ended with, had it gained what finished ones gained from there on.

    The median gain of those that stood next to it at its last point; None where too few got there.
    """
    own = stood(curve, curve.at[-1]) if curve.at else None
    if own is None:
        return None
    pairs = [(found[0], other.losses[-1]) for other in others if (found := stood(other, curve.at[-1])) is not None]
    if len(pairs) < LEAST:
        return None
    then, last = (np.asarray(side, float) for side in zip(*pairs, strict=True))
    apart = np.abs(then - np.asarray(own[0]))
    return tuple(
        float(loss - np.median((then - last)[np.argsort(apart[:, axis], kind="stable")[:NEAR], axis]))
        for axis, loss in enumerate(own[0])
    )


def ends(curves: Sequence[Curve]) -> list[Losses]:
    """What came out of the trials that finished and keep the limits, as far as all of it is known."""
    found = [curve.losses[-1] for curve in curves if curve.kept and curve.losses]
    return [losses for losses in found if not any(math.isnan(loss) for loss in losses)]


def beaten(losses: Losses, others: Sequence[Losses]) -> bool:
    """Whether one of the others is nowhere worse and somewhere better."""
    if not others:
        return False
    values, own = np.asarray(others, float), np.asarray(losses, float)
    return bool(np.any(np.all(values <= own, axis=1) & np.any(values < own, axis=1)))
