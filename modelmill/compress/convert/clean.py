"""Cleaning of a graph, whoever exported it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Clean(Compressor):
    """Say a graph in fewer operations and bytes: constants worked out, batch norms fused, what does nothing dropped.

    A factor goes into the weights of the layer behind it, and a reshape before a Flatten goes. Branches whose way is
    known from the shapes are taken, dropout and what no output needs goes, constants that come twice are kept once. An
    operation whose result would be larger than what it is made of is left to the runtime. Other steps on graphs clean
    as much as they need to see by themselves.
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the cleaned graph, or the graph as it is where there is nothing to clean."""
        from modelmill.compress.convert.cleaning import clean, written
        from modelmill.graph.clean import load
        from modelmill.graph.scopes import nodes

        before = model.body.value
        proto = load(before)
        count = len(nodes(proto))
        yield Progress(0, 1, note=f"{count} operations are looked through")
        done = clean(proto)
        after, left = written(proto), len(nodes(proto))
        values = {"size_bytes": float(len(after)), "size_bytes_before": float(len(before))}
        if len(after) >= len(before) and left >= count:
            yield Progress(1, 1, values, "nothing to clean", model)
            return
        said = "; ".join(f"{what}: {times}" for what, times in done.items())
        note = f"{count} operations became {left}, {len(before)} bytes {len(after)}; {said or 'words went'}"
        yield Progress(1, 1, values, note, model.with_body(after, "graph", f"convert.clean: {note}"))
