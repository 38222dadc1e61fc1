"""Is there anything to tell apart, and does the test set speak of the same classes?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelmill.contracts import Check
from modelmill.data.columns import shown
from modelmill.dataset import Splits
from modelmill.finding import Finding


class Target(Check):
    """A target with one value is fatal: there is nothing to learn. Labels that training never sees are a warning."""

    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield what is wrong with the target."""
        target = splits.train.target
        if target is None or not len(target):
            return
        where = f"{splits.train.origin} column {splits.train.target_name}"
        known = set(target.tolist())
        everything = known.union(*(p.target.tolist() for p in (splits.valid, splits.test) if p.target is not None))
        is_number = target.dtype.kind == "f"
        if len(known) == 1:
            yield _single(where, next(iter(known)), is_number, len(everything) > 1)
        elif not is_number:
            yield from _unseen(splits, known, where)


def _single(where: str, value: object, is_number: bool, elsewhere: bool) -> Finding:
    part = "every training row" if elsewhere else "every row"
    what = "the value" if is_number else "the class"
    hint = "Name another target, or give rows of at least two " + ("values." if is_number else "classes.")
    return Finding("target", "fatal", where, f"{part} has {what} {value!r}; there is nothing to learn", hint)


def _unseen(splits: Splits, known: set[object], where: str) -> Iterator[Finding]:
    for name, part in (("validation", splits.valid), ("test", splits.test)):
        if part.target is None:
            continue
        rows = [label for label in part.target.tolist() if label not in known]
        if rows:
            labels = shown([str(label) for label in np.unique(np.array(rows, dtype=str))])
            message = f"{len(rows)} {name} rows have labels that no training row has: {labels}"
            yield Finding("target", "warning", where, message, "They count as wrong.", {"rows": len(rows)})
