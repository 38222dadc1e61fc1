"""How much processor time rows take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset
from modelmill.evaluate.costs.timing import Plan, time_rows


class Cpu(Cost):
    """Processor seconds of a thousand rows, one at a time: what remains of latency when waiting does not count."""

    gives: ClassVar[tuple[str, ...]] = ("cpu_seconds",)

    seconds: Annotated[float, Meta(gt=0, le=60)] = 0.1
    """Time for each model, warm-up aside."""
    blocks: Annotated[int, Meta(ge=2, le=100)] = 4
    """Turns that each model takes."""

    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Processor seconds of a thousand rows, for every model."""
        series = time_rows(models, data, 1, Plan(self.seconds, self.blocks, warmups=5))
        return [{"cpu_seconds": float(np.median(one.cpu_ms))} for one in series]
