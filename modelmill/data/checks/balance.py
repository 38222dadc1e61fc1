"""Are the classes of like size?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta

from modelmill.contracts import Check
from modelmill.data.columns import share, shown
from modelmill.dataset import Splits
from modelmill.finding import Finding


class Balance(Check):
    """Classes that are rare: a single row is in training alone, and a small class is easily overlooked."""

    ratio: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    """A class smaller than this part of the largest is worth a warning."""

    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield a warning for classes with a single row, and one for unequal classes."""
        targets = [p.target for p in (splits.train, splits.valid, splits.test) if p.target is not None and p.rows]
        if not targets or targets[0].dtype.kind == "f":
            return
        target = np.concatenate(targets)
        labels, counts = np.unique(target.astype(str) if target.dtype == object else target, return_counts=True)
        where = f"{splits.train.origin} column {splits.train.target_name}"
        single = [str(label) for label in labels[counts == 1]]
        if single:
            many = len(single) > 1
            message = f"class{'es' * many} with a single row: {shown(single)}; {'they are' if many else 'it is'}"
            message += " trained on, and never judged"
            yield Finding("balance", "warning", where, message, "Give more rows, or join classes.", {"classes": single})
        largest, smallest = int(counts.max()), int(counts.min())
        if smallest < self.ratio * largest and smallest > 1:
            figures = {str(label): int(count) for label, count in zip(labels[:50], counts[:50], strict=True)}
            rare, common = str(labels[counts.argmin()]), str(labels[counts.argmax()])
            message = f"the smallest class, {rare!r}, has {share(smallest / len(target))} of the rows, "
            message += f"the largest, {common!r}, {share(largest / len(target))}"
            hint = "Accuracy hides small classes: try --maximize f1."
            yield Finding("balance", "warning", where, message, hint, figures)
