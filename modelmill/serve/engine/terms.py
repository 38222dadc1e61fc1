"""On what terms a request waits for the engine: until when, how urgent, and at whose expense."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """What the engine is told of a request beside its rows.

    deadline: the time, on the loop's clock in seconds, after which the answer is of no use. priority: 1 is the most
    urgent, as in the protocol; 0 is the default, which comes after every stated one. payer: whose share the rows count
    against. share: the weight of that payer's share.
    """

    deadline: float = math.inf
    priority: int = 0
    payer: str = ""
    share: float = 1.0


DEFAULT_TERMS = Terms()
