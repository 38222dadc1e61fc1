"""Answers that are averaged over the rows before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Smooth(Compressor):
    """Average every answer with those of the rows before it in the batch, in the graph.

    For rows that are one series, in the order of time, sent together: a row that comes alone is answered as before. The
    answer to a row then depends on its call, and the service joins no requests to such a version. Data
    without a time column, with groups, or out of order are refused.

    Brown (1959); Roberts (1959), https://doi.org/10.1080/00401706.1959.10489860
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    series: ClassVar[bool] = True

    by: Literal["exponential", "moving"] = "exponential"
    """Rows count the less the older they are, or the last `window` of them count the same."""
    window: Annotated[int, Meta(ge=1, le=1000)] = 3
    """Rows of a moving average; an exponential one is as old on average (its step is 2 / (window + 1)); 1 is off."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Give the model with smoothed answers."""
        from modelmill.compress.average.series import kernel, refuse, smoothed, told

        refuse(data, model.signature)
        if self.window == 1:
            yield Progress(1, 1, note="a window of one row smooths nothing", result=model)
            return
        weights = kernel(self.by, self.window)
        yield Progress(0, 1, note=f"answers become averages over the last {len(weights)} rows of a batch")
        graph = smoothed(model, weights, task)
        result = model.with_body(graph, "graph", f"average.smooth: {self.by} over {self.window} rows")
        yield Progress(1, 1, {"size_bytes": float(len(graph))}, told(model, result, data.valid, task), result)
