"""Tells from a target whether it is a class or a number that is to be predicted."""

from __future__ import annotations

import numpy as np

from modelmill.contracts import Array

MOST_CLASSES = 20
"""Integers with more distinct values than this are numbers."""

MOST_SHARE = 0.05
"""Distinct values in a share of the rows, above which integers are numbers."""

CLASS_NAMES = frozenset({"class", "label", "classes", "labels", "category", "species"})
"""Names of a target whose integers are classes, however few the rows."""


def infer(target: Array, name: str = "") -> str:
    """The task that a target asks for: "classify" or "regress".

    >>> infer(np.array(["cat", "dog"], object))
    'classify'
    >>> infer(np.array([0.5, 1.25], np.float32))
    'regress'
    """
    return explain(target, name)[0]


def explain(target: Array, name: str = "") -> tuple[str, str]:
    """The task that a target asks for, and why, as a person would say it.

    >>> explain(np.array([True, False]))[1]
    'the target is true or false'
    """
    if target.dtype == np.bool_:
        return "classify", "the target is true or false"
    if target.dtype.kind in "OSU":
        return "classify", "the target is text"
    if target.dtype.kind == "f":
        return "regress", "the target holds numbers with fractions"
    return _integers(target, name)


def _integers(target: Array, name: str) -> tuple[str, str]:
    distinct = len(np.unique(target))
    if distinct <= 2:
        return "classify", f"the target is one of {distinct} whole numbers"
    if name.lower() in CLASS_NAMES:
        return "classify", f"the target is named {name!r} and holds {distinct} whole numbers"
    if distinct <= MOST_CLASSES and distinct <= MOST_SHARE * len(target):
        return "classify", f"the target is one of {distinct} whole numbers in {len(target)} rows"
    return "regress", f"the target holds {distinct} different whole numbers in {len(target)} rows"
