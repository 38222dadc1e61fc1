"""Do rows come more than once, and do equal rows agree on the target?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelmill.contracts import Check
from modelmill.data.cells import Array
from modelmill.data.columns import share, target_codes
from modelmill.data.hashing import hash_rows, mix
from modelmill.dataset import Dataset, Splits
from modelmill.finding import Finding


class Duplicates(Check):
    """Rows that are the same in all columns; among them those whose targets differ, which no model can tell apart."""

    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield a warning for repeated rows, and one for equal rows with different targets."""
        parts = [part for part in (splits.train, splits.valid, splits.test) if part.rows]
        if not parts:
            return
        keys = np.concatenate([hash_rows(part, 0) for part in parts])
        targets = _targets(parts)
        whole = mix(keys ^ mix(targets.astype(np.uint64)))
        again = len(whole) - len(np.unique(whole))
        where = splits.train.origin
        if again:
            message = f"{again} of {len(keys)} rows ({share(again / len(keys))}) repeat another row"
            yield Finding("duplicates", "warning", where, message, "Equal rows stay in one part.", {"rows": again})
        unlike = _unlike(keys, whole)
        if unlike:
            message = f"{unlike} rows have the features of another row and a different target"
            yield Finding("duplicates", "warning", where, message, "Look for wrong labels.", {"rows": unlike})


def _targets(parts: list[Dataset]) -> Array:
    return target_codes(np.concatenate([part.target for part in parts if part.target is not None]))


def _unlike(keys: Array, whole: Array) -> int:
    """How many rows share their features with a row of another target."""
    _, first = np.unique(whole, return_index=True)
    _, members, counts = np.unique(keys[first], return_inverse=True, return_counts=True)
    split_keys = np.unique(keys[first][counts[members] > 1])
    return int(np.isin(keys, split_keys).sum())
