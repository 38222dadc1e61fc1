"""Runs the steps of `compress` one after the other; converts where a step needs it, and always ends in a graph."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from modelmill.compress.convert.onnx import Onnx
from modelmill.compress.distill.merge import Merge
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.method import name_of
from modelmill.model import Model
from modelmill.trial import Progress


def run(
    steps: Sequence[Compressor],
    model: Model,
    data: Splits,
    task: Task,
    judge: Judge,
    seed: int,
    others: Mapping[str, Model] | None = None,
) -> Iterator[Progress]:
    """Compress a copy of the model by all steps, in order; the last Progress holds the graph that comes out.

    others: the models that steps name, by the reference that they name them by.
    """
    for step in _bridged(steps, model):
        given = partial(step, other=(others or {}).get(step.model)) if isinstance(step, Merge) else step
        model = yield from _taken(step, given(model, data, task, judge, seed))
    yield Progress(1, 1, {"size_bytes": float(len(model.body.value))}, result=model)


def _bridged(steps: Sequence[Compressor], model: Model) -> Iterator[Compressor]:
    """The steps, with a conversion before the first that takes a graph alone, or at the end."""
    kind = model.body.kind
    for step in steps:
        if kind not in step.takes:
            if kind == "graph" or "graph" not in step.takes:
                raise ModelError(
                    f"compress.{name_of(type(step))}",
                    f"takes a {' or '.join(sorted(step.takes))}, and a {kind} came",
                    "Put steps that take a network before those that take a graph.",
                )
            yield Onnx()
            kind = "graph"
        yield step
        kind = step.gives or kind
    if kind != "graph":
        yield Onnx()


def _taken(step: Compressor, found: Iterator[Progress]) -> Generator[Progress, None, Model]:
    """What one step yields, without the result, which is returned."""
    result = None
    for progress in found:
        result = progress.result
        note = f"{name_of(type(step))}: {progress.note}" if progress.note else ""
        yield replace(progress, note=note, result=None)
    if result is None:
        raise ModelError(f"compress.{name_of(type(step))}", "ended without a result", "This is a fault of the method.")
    return result
