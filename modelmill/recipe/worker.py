"""What a worker process does: it grows one candidate after another and tells what came of it, fold by fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from modelmill.contracts import Outputs
from modelmill.dataset import Dataset
from modelmill.model import Model
from modelmill.recipe.final import final, told
from modelmill.recipe.folds import Marks, Plan
from modelmill.recipe.foresee import foresee
from modelmill.recipe.grow import GRADIENT, grow, metric_names
from modelmill.recipe.job import Job
from modelmill.trial import Outcome, Progress


def worker(job: Job) -> Callable[[Mapping[str, Any]], Iterator[Any]]:
    """What a worker process does with a payload: a trial, or the final model of the run."""
    import multiprocessing
    import warnings

    if multiprocessing.parent_process() is not None:
        # What a library has to say about one candidate would stand between the lines of all others.
        warnings.simplefilter("ignore")

    def run(payload: Mapping[str, Any]) -> Iterator[Any]:
        if payload.get("final"):
            yield from final(job, payload)
        else:
            yield from trial(job, payload)

    return run


def trial(job: Job, payload: Mapping[str, Any]) -> Iterator[Any]:
    """One candidate: what it costs as far as that is known beforehand, its course, and its result last."""
    from modelmill.evaluate.judge import predict

    seen = foresee(job, payload["settings"])
    if seen.refusal:
        yield {"refused": seen.refusal, "costs": seen.costs}
        return
    if seen.costs:
        yield {"costs": seen.costs}
    marks = Marks(metric_names(job), job.task.metrics[0], job.signature.classes)
    plan = Plan.of(job.spec.search)
    cuts = plan.cut(job.splits, job.spec.seed)
    valid = [cut.valid for cut in cuts]
    seconds = float(payload.get("seconds") or 0) / len(cuts)
    rows = Rows()
    outputs: list[Outputs] = []
    made: list[Model] = []
    slopes: dict[str, float] = {}
    said: list[str] = []
    outcomes: tuple[Outcome, ...] = ()
    for number, cut in enumerate(cuts):
        for progress in grow(job, {**payload, "seed": payload["seed"] + number}, cut, seconds):
            rows.count(progress)
            slopes |= {name: value for name, value in progress.values.items() if name.startswith(GRADIENT)}
            if progress.note and number == 0:
                said.append(progress.note)
            if progress.result is not None:
                made.append(progress.result)
                outcomes = outcomes or progress.steps
            elif number == 0:
                yield {"step": progress.step, "values": dict(progress.values), "work": rows.passed * seen.work}
        rows.end_fold(cut.train)
        outputs.append(predict(made[-1].body.value, cut.valid))
        if number + 1 < len(cuts):
            yield {**_so_far(marks, outputs, valid), "work": rows.passed * seen.work}
    yield {
        **marks.total(outputs, valid, plan.folds, job.spec.seed),
        "artifact": made[0].body.value,
        "notes": told(made[0].history, said),
        "gradients": {name.removeprefix(GRADIENT): value for name, value in slopes.items()},
        "work": rows.passed * seen.work,
        "steps": outcomes,
    }


def _so_far(marks: Marks, outputs: Sequence[Outputs], valid: Sequence[Dataset]) -> dict[str, Any]:
    """The report after a fold: quality over the rows of all folds so far."""
    found = marks.so_far(outputs, valid[: len(outputs)])
    return {"step": 0, "folds": len(outputs), "values": {f"valid_{name}": value for name, value in found.items()}}


class Rows:
    """Counts the training rows of a trial, each as often as it was learned from."""

    def __init__(self) -> None:
        self._before = 0.0
        self._training = 0.0

    @property
    def passed(self) -> float:
        """How many rows were learned from so far."""
        return self._before + self._training

    def count(self, progress: Progress) -> None:
        """Take in a step; a count that falls is that of another training, after the one before."""
        rows = progress.values.get("rows")
        if rows is None:
            return
        if rows < self._training:
            self._before += self._training
        self._training = rows

    def end_fold(self, train: Dataset) -> None:
        """The fold is trained; a trainer that does not count has seen every row once."""
        self._before += self._training or train.rows
        self._training = 0.0
