"""What a detector found, as half a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.data.columns import share

SUBJECTS = {
    "values": "the values",
    "mean": "the means",
    "spread": "the standard deviations",
    "dark": "the shares of dark pixels",
}
"""What the numbers of an aspect are called."""


def words(kind: str, aspect: str, figures: Mapping[str, Any]) -> str:
    """What changed, with the shares before and now.

    >>> words("number", "missing", {"before": 0.01, "now": 0.2})
    '20.0 % of the rows have no value; before, it was 1.0 %'
    """
    now, before = share(figures["now"]), share(figures["before"])
    if aspect == "missing":
        return f"{now} of the rows have no value; before, it was {before}"
    if aspect == "unseen":
        such = ", ".join(map(repr, figures["such"]))
        return f"{now} of the rows hold a value that is new, such as {such}"
    if "value" in figures:
        return f"{_category(figures['value'])} makes up {now} of the rows; before, it was {before}"
    subject = "the greatest probabilities" if kind == "confidence" else SUBJECTS[aspect]
    side = "up to" if figures["up_to"] else "below"
    return f"{now} of {subject} are {side} {_number(kind, figures['at'])}; before, it was {before}"


def _category(value: str | None) -> str:
    if value is None:
        return "what is not among the frequent values"
    return repr(value) if value else "no value"


def _number(kind: str, number: float) -> str:
    if kind == "date":
        return str(np.datetime64(int(number), "ms").astype("datetime64[s]"))
    return f"{number:.4g}"
