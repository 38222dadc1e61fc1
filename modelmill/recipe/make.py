"""Before publishing: the winner made anew on all rows it may see, and measured against its uncompressed self."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from modelmill.contracts import Outputs
from modelmill.dataset import Dataset
from modelmill.recipe.bases import SEARCHED
from modelmill.recipe.grow import metric_names
from modelmill.recipe.job import Job
from modelmill.recipe.limits import at_length, limits, value_of
from modelmill.recipe.timing import Stopwatch, dropped
from modelmill.report import Limit, Value
from modelmill.spec import COSTS, FLOORS, Goal
from modelmill.trial import Outcome, Trial

if TYPE_CHECKING:
    from modelmill.execute.local import Pool
    from modelmill.store.blobs import Blobs

LEAST_S = 0.5
"""What making the winner gets, however late it is."""

LATE_S = 3.0
"""How long after its time the winner may still be in the making before it is given up."""

STILL_BETTER = 0.8
"""A best epoch in the last part of a training says that it was not too long."""

MOST = 3
"""So many candidates are made anew and measured at the most."""


@dataclass(frozen=True, eq=False)
class Made:
    """The winner as it is published, with figures from rows that no search saw."""

    trial: Trial
    artifact: bytes
    files: Mapping[str, bytes]
    metrics: dict[str, Value]
    costs: dict[str, float]
    plain_metrics: dict[str, Value]
    plain_costs: dict[str, float]
    limits: dict[str, Limit]
    outputs: Outputs
    notes: Sequence[str] = field(default=())
    steps: Sequence[Outcome] = field(default=())
    """What became of its steps of compression."""

    @property
    def keeps(self) -> bool:
        """Whether every limit is kept."""
        return all(limit.kept for limit in self.limits.values())


def measured(job: Job, trial: Trial, result: Mapping[str, Any], test: Dataset) -> Made:
    """Score a model and its uncompressed self on the test rows and measure both, interleaved."""
    from modelmill.evaluate.judge import evaluate, predict

    names = metric_names(job)
    both = [result["artifact"], result["baseline"]]
    costs, plain = at_length(both, test, job.spec.goal.limit)
    metrics, plain_metrics = (evaluate(graph, test, job.signature, names, "test", seed=job.spec.seed) for graph in both)
    return Made(
        trial=trial,
        artifact=result["artifact"],
        files=result.get("body", {}),
        metrics=metrics,
        costs=costs,
        plain_metrics=plain_metrics,
        plain_costs=plain,
        limits=limits(job.spec.goal.limit, {**{name: value.value for name, value in metrics.items()}, **costs}),
        outputs=predict(result["artifact"], test),
        notes=tuple(result.get("notes", ())),
        steps=tuple(result.get("steps", ())),
    )


Tried = tuple[Trial, Mapping[str, float]]
"""A candidate, and what came out when it was measured at length: costs and metrics by name."""


def following(trials: Sequence[Trial], goal: Goal, tried: Sequence[Tried] = ()) -> Trial | None:
    """The winner of the trials that were not tried yet; None where none is left that keeps the limits.

    What was tried, and cost more at length than the search had measured, says by how much the search measures too
    little, or by how much slower the machine has become: the next one must keep its limits by that much, as long as
    there is one that does. Else each next one lies as near to its limits as the last, and breaks them as it did.
    """
    from modelmill.search.pareto import best

    known = {trial.number for trial, _ in tried}
    left = [trial for trial in trials if trial.number not in known]
    asked = {name: limit / _worst(name, tried) for name, limit in goal.limit.items()}
    for each in (msgspec.structs.replace(goal, limit=asked), goal):
        found = best(left, each, tolerance(left, each))
        if found is not None:
            return found
    return None


def _worst(name: str, tried: Sequence[Tried]) -> float:
    """How many times what the search had measured a cost was, at the most (a floor: at the least); 1 where no more."""
    from modelmill.search.pareto import value

    if name not in COSTS:
        return 1.0
    shares = [value_of(name, found) / value(trial, name) for trial, found in tried if value(trial, name) > 0]
    known = [share for share in shares if share > 0]
    return min([1.0, *known]) if name in FLOORS else max([1.0, *known])


def tolerance(trials: Sequence[Trial], goal: Goal) -> float:
    """How much quality may be given up for fewer bytes: nothing where limits say what is cheap enough, else one
    standard error of the best (the one-standard-error rule: Breiman et al., 1984)."""
    from modelmill.search.pareto import best

    top = best(trials, goal)
    return 0.0 if goal.limit or top is None else top.spread


def remade(job: Job, workers: Pool, blobs: Blobs, trial: Trial, deadline: float | None, stopwatch: Stopwatch) -> Made:
    """The trial's candidate made anew in a worker, with more rows; as it was searched where that fails.

    A step of compression that turns out to be slower than what it replaces is left out, and the rest made once more;
    in a build it is taken after all where a limit is not kept without it.
    deadline: when it has to be made, on the monotonic clock.
    """

    def made(insist: bool) -> Made:
        result = anew(job, workers, trial, deadline, stopwatch, insist)
        if isinstance(result, str):
            graph = blobs.get(trial.artifact)
            note = f"Making it anew with more rows was given up ({result}): it stays as it was searched."
            result = {"artifact": graph, "baseline": graph, "notes": [*trial.notes, note], "steps": trial.steps}
        files = {**result.get("body", {}), f"{SEARCHED}model.onnx": blobs.get(trial.artifact)}
        if job.base:
            result = {**result, "baseline": job.base.served, "steps": judged(result["steps"], trial.steps)}
        with workers.paused():
            return measured(job, trial, {**result, "body": files}, job.splits.test)

    found = made(insist=False)
    if found.keeps or job.base or not dropped(found.steps):
        return found
    after_all = made(insist=True)
    return after_all if after_all.keeps else found


def anew(
    job: Job, workers: Pool, trial: Trial, deadline: float | None, stopwatch: Stopwatch, insist: bool
) -> Mapping[str, Any] | str:
    """What a worker makes of a trial, without the steps that are too slow; or why it makes nothing.

    insist: whether steps are taken whatever they cost.
    """
    payload = {"final": True, "settings": trial.settings, "seed": trial.seed, "epochs": enough_epochs(trial)}
    left: list[Outcome] = [outcome for outcome in trial.steps if job.base and not outcome.kept]
    while True:
        seconds = None if deadline is None else max(LEAST_S, deadline - time.monotonic())
        workers.submit("final", {**payload, "slow": left, "insist": insist, "seconds": seconds})
        result = _result(workers, None if seconds is None else time.monotonic() + seconds + LATE_S)
        if isinstance(result, str):
            return result
        with workers.paused():
            steps = stopwatch.steps(result["steps"])
        found = [outcome for outcome in steps if not outcome.kept and (job.base or outcome.latency_ratio)]
        if len(found) == len(left):
            return {**result, "steps": steps}
        left = found


def judged(steps: Sequence[Outcome], searched: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The steps with the qualities that the search found: made anew, there are no rows left to tell them by."""
    known = {outcome.place: outcome.quality for outcome in searched}
    return tuple(
        msgspec.structs.replace(outcome, quality=outcome.quality or known.get(outcome.place)) for outcome in steps
    )


def _result(workers: Pool, deadline: float | None) -> Mapping[str, Any] | str:
    """What the worker made, or why it made nothing."""
    while True:
        for message in workers.messages():
            if message.job == "final" and message.kind == "result":
                made: Mapping[str, Any] = message.value
                return made
            if message.job == "final" and message.kind == "error":
                return message.error
        if deadline is not None and time.monotonic() > deadline:
            workers.cancel("final")


def enough_epochs(trial: Trial) -> int:
    """Epochs after which a network was at its best; 0 where it was still getting better at the end.

    Made anew, it has no validation rows left that could stop it in time.
    """
    best = [point for point in trial.curve if "best_epoch" in point.values]
    if not best or best[0].values["best_epoch"] > STILL_BETTER * best[0].step:
        return 0
    return max(1, round(best[0].values["best_epoch"]))
