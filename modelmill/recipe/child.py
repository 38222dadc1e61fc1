"""After a search among recipes: the candidate that is worth a version of its own, measured beside its parent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
    left: Mapping[int, str] = field(default_factory=dict)
    """Why a candidate that keeps the limits was not taken, by its number."""


Make = Callable[[Trial], Made]
"""Makes a candidate as it would be published, and measures it in turns with its parent."""


def chosen(
    seen: Look, blobs: Blobs, trials: Sequence[Trial], make: Make, missed: GoalError
) -> Generator[Progress, None, Chosen]:
    """The candidate with the smallest product of those that keep the promise, measured on test rows.

    missed: what is raised where no candidate keeps the limits, and the parent does not either.
    """
    job = seen.job
    base = job.base
    assert base is not None, "a child has a parent"
    able = [trial for trial in trials if feasible(trial, seen.goal)]
    itself = beside(job, trials[0], base.served) if job.spec.goal.limit else None
    left = {trial.number: lack for trial in able if (lack := lacks(trial, base))}
    tried = 0
    for trial in ranked([trial for trial in able if trial.number not in left], job.task.metrics[0]):
        why = f"{MOST} were measured at length before it" if tried == MOST else ""
        if not why and (itself is None or itself.keeps) and not sure(blobs.get(trial.artifact), job):
            why = "its loss is too near to what is allowed to be sure"
        why = why or saturates(blobs.get(trial.artifact), job)
        if not why:
            tried += 1
            how = "Making #{0} anew from {1} itself, and measuring" if twin(base) else "Measuring #{0} beside {1}"
            yield Progress(0, 0, note=how.format(trial.number, base.reference))
            made = make(trial)
            why = broken(made, job)
            if not why:
                return Chosen(made, left=left)
        left[trial.number] = why
        yield Progress(0, 0, note=f"#{trial.number} is left: {why}")
    itself = itself or beside(job, trials[0], base.served)
    if itself.keeps:
        return Chosen(itself, stays=True, left=left)
    if not left:
        raise missed
    nearest = min((trial for trial in able if trial.number in left), key=product).number
    said = f"nothing keeps the limits and can take the place of {base.reference}; the nearest, #{nearest}, is left"
    raise GoalError("goal.limit", f"{said}: {left[nearest]}", "Loosen them, allow a larger loss, or give more time.")


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


def lacks(trial: Trial, base: Base) -> str:
    """What keeps a candidate from the place of its parent: it is larger or slower, or neither smaller nor faster.

    Where a goal names the bytes in the store, smaller is what is smaller there, too.

    >>> base = Base("digits@1", None, bytes(2000), None, b"", 1.0)
    >>> costs = {"size_bytes": 1000, "latency_ratio": 1.0, "latency_ratio_low": 0.9, "latency_ratio_high": 1.1}
    >>> from modelmill.trial import Outcome
    >>> steps = (Outcome("convert.clean", {}, 0, kept=True),)
    >>> lacks(Trial(0, "done", {}, costs=costs, steps=steps), base)
    ''
    >>> lacks(Trial(0, "done", {}, costs=costs | {"size_bytes": 2100}, steps=steps), base)
    'it is larger: 2.1 kB against 2.0 kB of digits@1'
    >>> lacks(Trial(0, "done", {}, costs=costs), base)
    'no step was kept: it is digits@1'
    """
    if not any(outcome.kept for outcome in trial.steps):
        return f"no step was kept: it is {base.reference}"
    size, whole = value(trial, "size_bytes"), len(base.served)
    ratio, low, high = (value(trial, f"latency_ratio{end}") for end in ("", "_low", "_high"))
    if size > whole:
        return f"it is larger: {size / 1000:.1f} kB against {whole / 1000:.1f} kB of {base.reference}"
    if low > NOISE:
        return f"it is slower: a row takes {ratio:.2f} times as long as in {base.reference} ({low:.2f} to {high:.2f})"
    stored = trial.costs.get("stored_kb")
    if size < whole or high < 1 or (stored is not None and stored * 1000 < base.stored):
        return ""
    return f"it is neither smaller nor faster than {base.reference}"


def ranked(trials: Sequence[Trial], metric: str) -> Iterator[Trial]:
    """Candidates in the order in which they are tried: the smallest product first.

    Of those that are as good within a tenth and within the noise of their times, the first is that of the best quality.

    >>> costs = {"size_kb": 1.0, "latency_ratio": 1.0, "latency_ratio_low": 0.97}
    >>> small = Trial(0, "done", {}, metrics={"accuracy": 0.6}, costs=costs | {"size_kb": 0.97})
    >>> right = Trial(1, "done", {}, metrics={"accuracy": 0.8}, costs=costs)
    >>> large = Trial(2, "done", {}, metrics={"accuracy": 0.9}, costs=costs | {"size_kb": 1.3})
    >>> [trial.number for trial in ranked([small, right, large], "accuracy")]
    [1, 0, 2]
    """
    left = sorted(trials, key=product)
    while left:
        least, _ = product(left[0])
        near = [one for one in left if product(one)[0] <= 1.1 * least and product(one, "_low")[0] <= least]
        first = max(near, key=lambda one: signed(metric, value(one, metric)))
        left.remove(first)
        yield first


def product(trial: Trial, end: str = "") -> tuple[float, int]:
    """What a winner is chosen by: bytes times the cube of the time beside the parent; of equal ones the first.

    Bytes are those in the store where a goal names them. They fall by codes alone, to an eighth; time by tenths. With
    the cube a tenth of the time counts as much as a quarter of the bytes.
    end: `_low` for the lower end of the interval of the time.

    >>> small = Trial(0, "done", {}, costs={"size_bytes": 800, "latency_ratio": 1.0})
    >>> quick = Trial(1, "done", {}, costs={"size_bytes": 1000, "latency_ratio": 0.9})
    >>> min(small, quick, key=product).number
    1
    """
    size = trial.costs.get("stored_kb", value(trial, "size_kb"))
    return size * value(trial, f"latency_ratio{end}") ** 3, trial.number


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


def broken(made: Made, job: Job) -> str:
    """What of its word a candidate does not keep, made and measured at length: the limits, bytes, time, quality."""
    base = job.base
    assert base is not None, "a child has a parent"
    for name, limit in made.limits.items():
        if not limit.kept:
            return f"measured at length {name} is {limit.value:.4g}, and the limit {limit.limit:g}"
    if len(made.artifact) > len(base.served):
        sizes = f"{len(made.artifact) / 1000:.1f} kB against {len(base.served) / 1000:.1f} kB"
        return f"made anew it is larger than {base.reference}: {sizes}"
    if (ratio := made.costs["latency_ratio"]) > NOISE:
        return f"measured at length a row takes {ratio:.2f} times as long as in {base.reference}"
    if twin(base) and not repeats(made.artifact, job):
        return "made anew it loses more quality than is allowed"
    return ""


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


def saturates(graph: bytes, job: Job) -> str:
    """What to say where quality is within the allowed loss only on processors with VNNI, as far as that could be
    simulated."""
    metric = job.task.metrics[0]
    found = machines(graph, job.splits.valid, job.signature, metric)
    if "cut" not in found or job.spec.goal.allow_loss is None:
        return ""
    worse, top = sorted(signed(metric, found[name]) for name in ("cut", "whole"))
    if worse >= least(metric, top, job.spec.goal.allow_loss) - ROUNDING:
        return ""
    return f"sums of bytes saturate without VNNI, and its quality would be {found['cut']:.4f}"
