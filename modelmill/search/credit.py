"""What the members of a portfolio have earned, and how the budget is shared among them for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelmill.history import History
from modelmill.search.past import order

Array = np.ndarray[Any, Any]

TOP = 0.1
"""A trial earns something where it is among this part of all trials before it."""
CLOSE = 0.3
"""What a trial earns at the most that is not better than all before it.

More, and a member that tries the best once more, a little changed, is asked too often; nothing, and on spaces of few
values, where a new best is rare, no member stands out.
"""
START = 0.05
"""What every member counts as having earned for a unit of cost, so that one success does not decide."""


def shares(history: History, members: Sequence[str], least: float, memory: float) -> Array:
    """(members,) with which chance each is asked next.

    `least` is shared evenly, the rest by what each earned for a unit of cost, the newest trials counting most. A member
    that was not asked yet counts as the best of them.
    """
    earned, spent = np.zeros(len(members)), np.zeros(len(members))
    found = rewards(history)
    typical = _typical(history)
    for one, reward in zip(history, found, strict=True):
        earned, spent = earned * memory, spent * memory
        name = one.memo.get("member")
        if name in members and one.state != "running":
            i = members.index(str(name))
            earned[i] += reward
            spent[i] += one.work / typical if one.work > 0 and typical > 0 else 1.0
    rates = np.where(spent > 0, earned / np.maximum(spent, 1e-9), np.inf)
    known = rates[np.isfinite(rates)]
    rates = np.where(np.isfinite(rates), rates, known.max() if len(known) else 1.0) + START
    return np.asarray(least / len(members) + (1 - least) * rates / rates.sum())


def rewards(history: History) -> list[float]:
    """What each trial earned: 1 where it was better than all before it, else the less, the more of those beat it.

    >>> from modelmill.history import Past
    >>> rewards([Past(0, {}, "done", (2.0,)), Past(1, {}, "done", (1.0,)), Past(2, {}, "done", (3.0,))])
    [0.0, 1.0, 0.0]
    """
    place = {one.number: i for i, one in enumerate(order(history))}
    before: list[int] = []
    found = []
    for one in history:
        rank = place.get(one.number)
        if rank is None or not before:
            found.append(0.0)
        else:
            ahead = sum(other < rank for other in before)
            found.append(1.0 if ahead == 0 else CLOSE * max(0.0, 1.0 - ahead / max(TOP * len(before), 1.0)))
        if rank is not None:
            before.append(rank)
    return found


def _typical(history: History) -> float:
    """The mean cost of those trials of which it is known."""
    known = [one.work for one in history if one.work > 0 and math.isfinite(one.work)]
    return sum(known) / len(known) if known else 0.0
