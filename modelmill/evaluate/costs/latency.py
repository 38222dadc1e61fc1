"""How long one row takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset
from modelmill.evaluate.costs.timing import Plan, Series, ratio, time_rows


class Latency(Cost):
    """Milliseconds for one row on one thread, spinning off: the median, the 95th and the 99th percentile.

    All come from the same calls. The models take turns in blocks whose order is shuffled, each on the same real rows,
    and blocks in which the last model, the baseline, drifts by over 5 % are left out. With several models there is
    also `latency_ratio`, the median over blocks of a model's time to the baseline's, and the ends of its 95 % interval
    (`latency_ratio_low`, `latency_ratio_high`): a model is faster where the upper end is below 1.
    """

    gives: ClassVar[tuple[str, ...]] = ("latency_ms", "latency_p95_ms", "latency_p99_ms")

    seconds: Annotated[float, Meta(gt=0, le=60)] = 0.6
    """Time for each model, warm-up aside."""
    blocks: Annotated[int, Meta(ge=2, le=100)] = 10
    """Turns that each model takes."""
    warmups: Annotated[int, Meta(ge=2, le=1000)] = 20
    """Calls before the first that counts."""

    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Milliseconds of single rows, for every model."""
        series = time_rows(models, data, 1, Plan(self.seconds, self.blocks, self.warmups))
        return [_figures(one, series[-1], len(models) > 1) for one in series]


def _figures(series: Series, baseline: Series, several: bool) -> dict[str, float]:
    p50, p95, p99 = (float(value) for value in np.percentile(series.wall_ms, [50, 95, 99]))
    figures = {"latency_ms": p50, "latency_p95_ms": p95, "latency_p99_ms": p99}
    if several:
        middle, low, high = ratio(series, baseline)
        figures |= {"latency_ratio": middle, "latency_ratio_low": low, "latency_ratio_high": high}
    return figures
