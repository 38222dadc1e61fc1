"""Do rows that are trained on come back where the model is judged?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelmill.contracts import Check
from modelmill.data.columns import share
from modelmill.data.hashing import hash_rows
from modelmill.dataset import Splits
from modelmill.finding import Finding


class Overlap(Check):
    """Rows of the validation and test parts whose features equal those of a row in an earlier part."""

    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield a warning for each pair of parts that share rows."""
        parts = [("training", splits.train), ("validation", splits.valid), ("test", splits.test)]
        keys = [(name, hash_rows(part, 0)) for name, part in parts if part.rows]
        for number, (name, later) in enumerate(keys):
            for earlier_name, earlier in keys[:number]:
                both = int(np.isin(later, earlier).sum())
                if both:
                    part = share(both / len(later))
                    message = f"{both} {name} rows ({part}) equal a {earlier_name} row in every feature"
                    hint = "Figures on them say less: leave the copies out, or name a group."
                    figures = {"rows": both, "share": round(both / len(later), 6)}
                    yield Finding("overlap", "warning", splits.train.origin, message, hint, figures)
