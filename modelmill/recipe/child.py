"""After a search among recipes: the candidate that is worth a version of its own, measured beside its parent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from modelmill.compress.promise import ROUNDING, least
from modelmill.errors import GoalError
from modelmill.recipe.final import further
from modelmill.recipe.grow import signed
from modelmill.recipe.job import Base, Job
from modelmill.recipe.look import Look
from modelmill.recipe.machines import machines
from modelmill.recipe.make import MOST, Made, measured
from modelmill.recipe.timing import NOISE
from modelmill.search.pareto import feasible, value
from modelmill.store.blobs import Blobs
from modelmill.trial import Progress, Trial


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is served from now on, as it was measured: a child, or the parent, which stays."""

    made: Made
    stays: bool = False


Make = Callable[[Trial], Made]
"""Makes a candidate as it would be published, and measures it in turns with its parent."""


def chosen(
    seen: Look, blobs: Blobs, trials: Sequence[Trial], make: Make, missed: GoalError
) -> Generator[Progress, None, Chosen]:
    """The candidate with the smallest product of those that keep the promise, measured on test rows.

    missed: what is raised where nothing keeps the limits, the parent included.
    """
    job = seen.job
    base = job.base
    assert base is not None, "a child has a parent"
    able = [trial for trial in trials if feasible(trial, seen.goal)]
    itself = beside(job, trials[0], base.served) if job.spec.goal.limit else None
    left = MOST
    for trial in sorted((trial for trial in able if better(trial, base)), key=product):
        if (itself is None or itself.keeps) and not sure(blobs.get(trial.artifact), job):
            yield Progress(0, 0, note=f"#{trial.number} is left: its loss is too near to what is allowed to be sure")
            continue
        if not left:
            break
        left -= 1
        found = machines(blobs.get(trial.artifact), job.splits.valid, job.signature, job.task.metrics[0])
        if not holds_elsewhere(found, job):
            said = f"sums of bytes saturate without VNNI, and its quality would be {found['cut']:.4f}"
            yield Progress(0, 0, note=f"#{trial.number} is left: {said}")
            continue
        how = "Making #{0} anew from {1} itself, and measuring" if twin(base) else "Measuring #{0} beside {1}"
        yield Progress(0, 0, note=how.format(trial.number, base.reference))
        made = make(trial)
        if made.keeps and no_worse(made, base) and (not twin(base) or repeats(made.artifact, job)):
            return Chosen(made)
        yield Progress(0, 0, note=f"#{trial.number} is left: measured at length it does not keep its word")
    itself = itself or beside(job, trials[0], base.served)
    if not itself.keeps:
        raise missed
    return Chosen(itself, stays=True)


def twin(base: Base) -> bool:
    """Whether recipes are searched on a model that has not seen the validation rows, in the place of the parent."""
    return base.searched is not base.model


def beside(job: Job, trial: Trial, graph: bytes) -> Made:
    """A candidate measured in turns with its parent, on the test rows."""
    assert job.base is not None, "a child has a parent"
    result = {
        "artifact": graph,
        "baseline": job.base.served,
        "notes": trial.notes,
        "body": further(job.base.model),
        "steps": trial.steps,
    }
    return measured(job, trial, result, job.splits.test)


def better(trial: Trial, base: Base) -> bool:
    """Whether a candidate is no larger and no slower than its parent, and smaller or faster by measure.

    Where a goal names the bytes in the store, smaller is what is smaller there, too.

    >>> base = Base("digits@1", None, bytes(2000), None, bytes(2000), 1.0)
    >>> costs = {"size_bytes": 1000, "latency_ratio_low": 0.9, "latency_ratio_high": 1.1}
    >>> better(Trial(0, "done", {}, costs=costs), base)
    True
    >>> better(Trial(0, "done", {}, costs=costs | {"size_bytes": 2001}), base)
    False
    """
    size, low, high = (value(trial, name) for name in ("size_bytes", "latency_ratio_low", "latency_ratio_high"))
    whole = len(base.graph)
    if size > whole or low > NOISE:
        return False
    stored = trial.costs.get("stored_kb")
    return size < whole or high < 1 or (stored is not None and stored * 1000 < base.stored)


def product(trial: Trial) -> tuple[float, int]:
    """What a winner is chosen by: bytes times the cube of the time beside the parent; of equal ones the first.

    Bytes are those in the store where a goal names them. They fall by codes alone, to an eighth; time by tenths. With
    the cube a tenth of the time counts as much as a quarter of the bytes.

    >>> small = Trial(0, "done", {}, costs={"size_bytes": 800, "latency_ratio": 1.0})
    >>> quick = Trial(1, "done", {}, costs={"size_bytes": 1000, "latency_ratio": 0.9})
    >>> min(small, quick, key=product).number
    1
    """
    size = trial.costs.get("stored_kb", value(trial, "size_kb"))
    return size * value(trial, "latency_ratio") ** 3, trial.number


def sure(graph: bytes, job: Job) -> bool:
    """Whether the loss on the validation rows and one standard error more are within what is allowed.

    Of 300 rows one is a third of a hundredth: the boldest of many candidates owes some of its quality to luck.
    """
    from modelmill.evaluate.judge import predict
    from modelmill.metrics.score import doubt, score

    base, metric, rows = job.base, job.task.metrics[0], job.splits.valid
    if base is None or job.spec.goal.allow_loss is None:
        return True
    assert rows.target is not None, "rows without the truth have answers in its place"
    pair = predict(base.graph, rows), predict(graph, rows)
    found = score([metric], pair[1], rows.target, job.signature.classes)[metric]
    margin = doubt(metric, pair, rows.target, job.signature.classes, job.spec.seed)
    floor = least(metric, signed(metric, base.quality), job.spec.goal.allow_loss)
    return signed(metric, found) - margin >= floor - ROUNDING


def no_worse(made: Made, base: Base) -> bool:
    """Whether a candidate, measured at length, is no larger than its parent, and its median row no slower."""
    return len(made.artifact) <= len(base.served) and made.costs["latency_ratio"] <= NOISE


def repeats(graph: bytes, job: Job) -> bool:
    """Whether a candidate that was made anew lost no more than is allowed, on validation rows, which its parent knows
    as it does: what went wrong in the making shows there."""
    from modelmill.recipe.parent import quality_of

    base, metric = job.base, job.task.metrics[0]
    if base is None or job.spec.goal.allow_loss is None:
        return True
    before, after = (
        signed(metric, quality_of(one, job.task, job.splits, job.signature)) for one in (base.served, graph)
    )
    return after >= least(metric, before, job.spec.goal.allow_loss) - ROUNDING


def holds_elsewhere(found: dict[str, Any], job: Job) -> bool:
    """Whether quality is within the allowed loss where sums are cut, too, as far as that could be simulated."""
    if "cut" not in found or job.spec.goal.allow_loss is None:
        return True
    metric = job.task.metrics[0]
    worse, top = sorted(signed(metric, found[name]) for name in ("cut", "whole"))
    return worse >= least(metric, top, job.spec.goal.allow_loss) - ROUNDING
