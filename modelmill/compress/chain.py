"""Runs the steps of `compress` one after the other; converts where a step needs it, and always ends in a graph.

Where a chain is held to a promise, a step that breaks it is dropped, and the next goes on from the model before it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import Any

from msgspec.structs import replace as told

from modelmill.compress.convert.onnx import Onnx
from modelmill.compress.distill.merge import Merge
from modelmill.compress.finished import HURRIED
from modelmill.compress.promise import Promise
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.errors import MillError, ModelError
from modelmill.graph.export import export
from modelmill.method import name_of
from modelmill.model import Kind, Model
from modelmill.trial import Outcome, Progress

FAULT = "This is a fault of the method: report it, and leave the step out."
"""What to do about a step that should have ended otherwise."""

ORDER = "Put steps that take a network before those that take a graph."
ESTIMATORS = (
    "Leave the step out; these take an estimator: prune.trees, distill.tree, distill.logistic, input.prepare. Or train "
    "a network."
)
ARTICLES: dict[Kind, str] = {"network": "a network", "estimator": "an estimator", "graph": "a graph"}


@dataclass(frozen=True, eq=False)
class Given:
    """What every step of a chain is given beside the model."""

    data: Splits
    task: Task
    judge: Judge
    seed: int
    others: Mapping[str, Model]

    def run(self, step: Compressor, model: Model) -> Iterator[Progress]:
        """Run one step."""
        call = partial(step, other=self.others.get(step.model)) if isinstance(step, Merge) else step
        return call(model, self.data, self.task, self.judge, self.seed)


def run(
    steps: Sequence[Compressor],
    model: Model,
    data: Splits,
    task: Task,
    judge: Judge,
    seed: int,
    others: Mapping[str, Model] | None = None,
    promise: Promise | None = None,
) -> Iterator[Progress]:
    """Compress a copy of the model by all steps, in order; the last Progress holds the graph that comes out.

    others: the models that steps name, by the reference that they name them by.
    """
    given = Given(data, task, judge, seed, others or {})
    outcomes: tuple[Outcome, ...] = ()
    if promise is None:
        for step in steps:
            model = yield from _bridged(step, model, given)
            model = yield from _taken(step, given.run(step, model))
    else:
        model, outcomes = yield from _held(steps, model, given, promise)
    if model.body.kind != "graph":
        model = yield from _taken(Onnx(), given.run(Onnx(), model))
    yield Progress(1, 1, {"size_bytes": float(len(model.body.value))}, result=model, steps=outcomes)


def _held(
    steps: Sequence[Compressor], model: Model, given: Given, promise: Promise
) -> Generator[Progress, None, tuple[Model, tuple[Outcome, ...]]]:
    """What comes of the steps that keep the promise, and what became of each."""
    stand = promise.stand(model, given.task, given.judge)
    enough = promise.least(stand)
    outcomes: list[Outcome] = []
    for place, step in enumerate(steps):
        if place in promise.slow:
            outcomes.append(promise.slow[place])
            continue
        bridged = yield from _bridged(step, stand.model, given)
        try:
            found, reused = yield from _recalled(step, bridged, given, promise)
            after = promise.stand(found, given.task, given.judge)
            outcome = told(promise.outcome(step, place, replace(stand, model=bridged), after, enough), reused=reused)
        except ModelError as error:
            outcome = promise.refused(step, place, error)
        outcomes.append(outcome)
        if outcome.kept:
            stand = after
        else:
            yield Progress(place + 1, len(steps), note=f"{outcome.step} is dropped: {outcome.why}")
    return stand.model, tuple(outcomes)


def _recalled(
    step: Compressor, model: Model, given: Given, promise: Promise
) -> Generator[Progress, None, tuple[Model, bool]]:
    """What comes out of a step, and whether an earlier run had kept it; what is new is kept for later ones."""
    finished = promise.finished
    if finished is None:
        return (yield from _taken(step, given.run(step, model))), False
    table: dict[str, Any] = step.as_table()
    limit_s = float(table.pop("seconds", 0.0))
    key = finished.key(model, table, given.data, given.seed)
    if found := finished.get(key, model, given.task):
        return found, True
    started = time.monotonic()
    made = yield from _taken(step, given.run(step, model))
    if not limit_s or time.monotonic() - started < HURRIED * limit_s:
        finished.put(key, made, export(made, given.task))
    return made, False


def _bridged(step: Compressor, model: Model, given: Given) -> Generator[Progress, None, Model]:
    """The model as the step takes it: converted to a graph where it takes a graph alone."""
    kind = model.body.kind
    if kind in step.takes:
        return model
    if kind == "graph" or "graph" not in step.takes:
        wanted = " or ".join(ARTICLES[one] for one in sorted(step.takes))
        message = f"takes {wanted}, and {ARTICLES[kind]} came"
        raise ModelError(f"compress.{name_of(type(step))}", message, ORDER if kind == "graph" else ESTIMATORS)
    return (yield from _taken(Onnx(), given.run(Onnx(), model)))


def _taken(step: Compressor, found: Iterator[Progress]) -> Generator[Progress, None, Model]:
    """What one step yields, without the result, which is returned. Raises ModelError for whatever a step raises."""
    result, name = None, name_of(type(step))
    try:
        for progress in found:
            result = progress.result
            yield replace(progress, note=f"{name}: {progress.note}" if progress.note else "", result=None)
    except MillError:
        raise
    except Exception as error:
        raise ModelError(f"compress.{name}", f"failed with {_fault(error)}", FAULT) from error
    if result is None:
        raise ModelError(f"compress.{name}", "ended without a result", FAULT)
    return result


def _fault(error: Exception) -> str:
    """An error that nobody meant to raise: its type, its words, and where it came up.

    >>> try:
    ...     [][0]
    ... except IndexError as error:
    ...     _fault(error)
    'IndexError: list index out of range (<doctest modelmill.compress.chain._fault[0]>, line 2)'
    """
    place = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(place.filename).name}, line {place.lineno})"
