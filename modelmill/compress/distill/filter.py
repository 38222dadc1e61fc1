"""A cheap model answers what it is sure of, and the rest goes on to the large one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Filter(Compressor):
    """Put a linear model or a tree before the model, in one graph, that answers the rows that it is sure of.

    It learns the model's probabilities. How sure it must be is chosen on the validation rows, so that the task's first
    metric loses no more than `allow_loss` there. The large model runs on the unsure rows of a batch alone, and not at
    all where there are none; every row has the answer that it would have by itself. The graph is larger than the model,
    and pays off where most rows are easy and the model is slow; the last note says how many rows were answered early.
    Other steps do not look into it: it comes last.

    Viola & Jones (2001), https://doi.org/10.1109/CVPR.2001.990517
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})

    gate: Literal["linear", "tree"] = "linear"
    """What the cheap model is."""
    allow_loss: Annotated[float, Meta(ge=0, le=1)] = 0.002
    """What the task's first metric may lose on the validation rows."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The weight of what the model says when the cheap one learns; the rest goes to the truth."""
    strength: Annotated[float, Meta(gt=0)] = 1.0
    """How strongly large weights of a linear gate are held back."""
    depth: Annotated[int, Meta(ge=1, le=64)] = 8
    """Questions on the way to a leaf of a tree, at most."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Give the model with a filter before it; as it is where no row can be answered early."""
        if not model.signature.classes:
            yield Progress(1, 1, note="a value has no probability to be sure by: no filter is put before", result=model)
            return
        from modelmill.compress.distill.cascade import cascade
        from modelmill.compress.distill.cheap import linear, tree
        from modelmill.compress.distill.gate import early, gate, held

        size = len(model.body.value)
        yield Progress(0, 1, note=f"a {self.gate} gate is put before a graph of {size} bytes")
        train, rows, where = held(data)
        estimator = linear(self.strength, True, seed)
        if self.gate == "tree":
            estimator = tree(self.depth, 5, train.rows, True, seed)
        before, said = gate(estimator, model, train, task, self.share)
        found = early(before, model, rows, task, self.allow_loss)
        if not found.count:
            note = f"no row can be answered early within a loss of {self.allow_loss:g}: no filter is put before"
            yield Progress(1, 1, {"early": 0.0}, note, model)
            return
        graph = cascade(before, model, found.threshold, task)
        note = (
            f"{found.count} of {rows.rows} {where} rows are answered early, at a probability of {found.threshold:.3f}; "
            f"{task.metrics[0]} {found.before:.4f} becomes {found.after:.4f}; {len(graph) - size:+d} bytes"
        )
        line = f"distill.filter: {found.count / rows.rows:.0%} of rows answered early"
        values = {"early": found.count / rows.rows, "size_bytes": float(len(graph))}
        yield Progress(1, 1, values, "; ".join(filter(None, (note, said))), model.with_body(graph, "graph", line))
