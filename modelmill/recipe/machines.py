"""On which machines the figures of a model hold, and what it answers where sums of bytes are cut."""

from __future__ import annotations

from typing import Any

from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.runtime.processor import exact_sums, instructions
from modelmill.signature import Signature

ROWS = 256
"""Rows on which a processor is simulated: that takes thousands of times as long as to run."""


def machines(graph: bytes, data: Dataset, signature: Signature, metric: str) -> dict[str, Any]:
    """What the processor here can do, how many operations on bytes there are, and how many of them may saturate.

    Where some may, `cut` and `exact` are the metric on the first rows as a processor without 8-bit dot products (VNNI)
    would answer, and as one with them would. `untold`: of how many operations on bytes nobody can tell.
    """
    from modelmill.compress.quantize.saturation import answers, limits
    from modelmill.metrics.score import score

    have = instructions()
    found: dict[str, Any] = {"instructions": have, "exact": exact_sums(have), "bytes": 0, "saturating": 0, "untold": 0}
    try:
        found["bytes"], found["saturating"], found["untold"] = limits(graph)
        if not found["saturating"]:
            return found
        rows = data.take(slice(0, ROWS))  # type: ignore[arg-type]  # a slice takes rows as positions do
        assert rows.target is not None, "rows without the truth have answers in its place"
        for name, cut in (("cut", True), ("whole", False)):
            given = answers(graph, dict(rows.columns), cut)
            found[name] = score([metric], given, rows.target, signature.classes)[metric]
    except ModelError as error:
        return {**found, "unknown": str(error)}
    return {**found, "rows": rows.rows}
