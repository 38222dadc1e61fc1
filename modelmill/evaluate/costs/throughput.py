"""How many rows a second come out when they go in 32 at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset
from modelmill.evaluate.costs.timing import Plan, time_rows


class Throughput(Cost):
    """Rows a second on one thread, 32 rows a call; `latency_b32_ms` is the median time of such a call."""

    gives: ClassVar[tuple[str, ...]] = ("throughput_rps", "latency_b32_ms")

    rows: Annotated[int, Meta(ge=1, le=4096)] = 32
    """Rows of one call."""
    seconds: Annotated[float, Meta(gt=0, le=60)] = 0.3
    """Time for each model, warm-up aside."""
    blocks: Annotated[int, Meta(ge=2, le=100)] = 8
    """Turns that each model takes."""

    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Rows a second and milliseconds of a batch, for every model."""
        series = time_rows(models, data, self.rows, Plan(self.seconds, self.blocks, warmups=5))
        medians = [float(np.median(one.wall_ms)) for one in series]
        return [{"throughput_rps": self.rows * 1000 / ms, "latency_b32_ms": ms} for ms in medians]
