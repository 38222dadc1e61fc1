"""Conversion of a trained body to one ONNX graph that takes raw rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Onnx(Compressor):
    """Write preparation, body and decoding as one ONNX graph, and check it against the body on real rows."""

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "estimator", "graph"})
    gives: ClassVar[Kind | None] = "graph"

    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 1e-4
    """How far outputs may be off: in probabilities, or in standard deviations of the values."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the model as a graph. Raises ModelError where graph and body disagree."""
        if model.body.kind == "graph":
            yield Progress(1, 1, note="it is a graph already", result=model)
            return
        from modelmill.compress.parity import check
        from modelmill.graph.export import export

        graph = export(model, task)
        off = check(model, graph, data.train, self.tolerance)
        result = model.with_body(graph, "graph", f"convert.onnx: {len(graph)} bytes")
        yield Progress(1, 1, {"size_bytes": float(len(graph)), "difference": off}, result=result)
