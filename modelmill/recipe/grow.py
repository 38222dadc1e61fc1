"""One candidate, from settings to a graph: prepare, build, train, compress, judge. Runs in a worker process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelmill.compress.promise import Promise
from modelmill.contracts import Arch, Heir, Judge, Task, Trainer
from modelmill.dataset import Dataset, Splits
from modelmill.errors import SpecError
from modelmill.method import Method, decode, find, name_of, settings
from modelmill.model import Body, Model, Part
from modelmill.recipe.job import Job
from modelmill.recipe.shelf import key_of
from modelmill.space import Dimension
from modelmill.spec import FLAGS, INSIST, Spec, Table, pick
from modelmill.trial import Outcome, Progress

TRAIN_SHARE = 0.65
"""The part of a trial's time that training takes where a step retrains after it."""

GRADIENT = "gradient."
"""What a progress value begins with that is the derivative of the loss with respect to a setting."""

LEAST_S = 0.5
"""What a step gets to retrain in, however late it is."""

ASKED = ("table", "image", "sequence")
"""Kinds of features that an arch may ask for by its setting `kind`."""

FEATURES_OF = {"image": "image", "sequence": "sequence"}
"""Kind of the only input: kind of features; all else is a table."""

READ_AS = {"image": ("image", "table", "sequence"), "sequence": ("sequence", "table"), "table": ("table", "sequence")}
"""Kinds of features that data of a kind can be read as, as they are first."""


def lookup(picks: Mapping[str, Any]) -> Callable[[Dimension], Any]:
    """Answers dimensions from settings; one that is not there takes its default, or its first value."""

    def choose(dimension: Dimension) -> Any:
        if dimension.name in picks:
            return picks[dimension.name]
        if dimension.default is not None:
            return dimension.default
        return dimension.options[0] if dimension.options else dimension.low

    return choose


def grow(job: Job, payload: Mapping[str, Any], data: Splits, seconds: float) -> Iterator[Progress]:
    """Make one candidate and yield progress; the last one holds the model, its body a finished graph."""
    started = time.monotonic()
    model = yield from trained(job, payload, data, seconds)
    left = max(LEAST_S, seconds - (time.monotonic() - started)) if seconds else 0.0
    yield from mill(job, payload, model, data, left)


def trained(job: Job, payload: Mapping[str, Any], data: Splits, seconds: float) -> Generator[Progress, None, Model]:
    """The trained model, not yet compressed; one that another trial has trained is taken from the shelf.

    Where it is not there it is trained again, in silence: what a trial reports must not depend on what is kept.
    """
    if job.base:
        return job.base.model if payload.get("final") else job.base.searched
    key, shared = key_of(payload), payload.get("like") is not None or bool(payload.get("slow") or payload.get(INSIST))
    if shared and job.shelf:
        before = untrained(job, picked_spec(job, payload["settings"]), data.train, payload["seed"])
        if before.body.kind == "network" and (found := job.shelf.get(key, before)):
            return found
    steps = train(job, payload, data, seconds)
    made = _outcome(steps) if shared else (yield from steps)
    if job.shelf and made.body.kind == "network":
        job.shelf.put(key, made)
    return made


def _outcome(steps: Generator[Progress, None, Model]) -> Model:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            model: Model = end.value
            return model


def train(job: Job, payload: Mapping[str, Any], data: Splits, seconds: float) -> Generator[Progress, None, Model]:
    """Prepare, build and fit; yields progress and returns the trained model, not yet compressed."""
    picked = picked_spec(job, payload["settings"])
    trained = model = untrained(job, picked, data.train, payload["seed"])
    table = {**asked(job, picked, "train"), **picked.train}
    share = TRAIN_SHARE if any("seconds" in settings(step) for step in milling(picked)) else 1.0
    known = settings(find("train", table["method"]))
    table |= {"seconds": share * seconds} if seconds and "seconds" in known else {}
    table |= {"epochs": payload["epochs"]} if payload.get("epochs") and "epochs" in known else {}
    trainer = decode("train", table)
    if payload.get("gradients"):
        steps = gradients(model, data, taught(job, picked), trainer, payload["seed"])
    else:
        steps = trainer(model, data, taught(job, picked), quality(job, data.valid), payload["seed"])
    for progress in steps:
        yield replace(progress, result=None, values=_of_epoch(progress))
        trained = progress.result or trained
    return trained


def asked(job: Job, picked: Spec, stage: str) -> dict[str, Any]:
    """What the picked arch asks of a stage, as far as its method knows it; nothing where there are no classes."""
    arch = decode("arch", picked.arch) if picked.arch else None
    table = picked.train if stage == "train" else picked.task
    if not isinstance(arch, Arch) or not job.signature.classes:
        return {}
    known = settings(find(stage, table["method"]))
    return {name: value for name, value in arch.asks().get(stage, {}).items() if name in known}


def taught(job: Job, picked: Spec) -> Task:
    """The task of a run, with what the picked arch asks of it where the spec says nothing of that."""
    wanted = asked(job, picked, "task")
    return job.task.replace(**{name: value for name, value in wanted.items() if name not in picked.task})


def _of_epoch(progress: Progress) -> Mapping[str, float]:
    """What belongs on a learning curve: the last progress of a training tells of the weights that were kept."""
    if progress.result is None:
        return progress.values
    return {name: value for name, value in progress.values.items() if name == "best_epoch" or GRADIENT in name}


def gradients(model: Model, data: Splits, task: Task, trainer: Trainer, seed: int) -> Iterator[Progress]:
    """Train as the trainer would, with a third split; the last values hold `gradient.train.TRAINER.SETTING`."""
    from modelmill.train.hypergradient import differentiated, third
    from modelmill.train.recipe import Recipe

    name = name_of(type(trainer))
    recipe = Recipe.of("sgd" if name == "sgd" else "adam", trainer)
    for progress in differentiated(model, third(data, seed), task, recipe, seed):
        values = {key.replace(GRADIENT, f"{GRADIENT}train.{name}."): value for key, value in progress.values.items()}
        yield replace(progress, values=values)


def milling(picked: Spec) -> list[type[Method]]:
    """The classes of a trial's compression steps."""
    return [find("compress", step["method"]) for step in picked.compress or ()]


def mill(job: Job, payload: Mapping[str, Any], trained: Model, data: Splits, seconds: float) -> Iterator[Progress]:
    """Compress a trained model by the steps of its settings; the last progress holds a finished graph.

    What retrains shares the seconds that are left.
    """
    from modelmill.compress import chain

    picked = picked_spec(job, payload["settings"])
    timed = ["seconds" in settings(step) for step in milling(picked)]
    tables = [{key: value for key, value in table.items() if key not in FLAGS} for table in picked.compress or ()]
    steps = [
        decode("compress", {**table, "seconds": seconds / sum(timed)} if seconds and limited else table)
        for table, limited in zip(tables, timed, strict=True)
    ]
    seed = job.spec.seed if job.base else payload["seed"]
    judge = quality(job, data.valid)
    yield from chain.run(
        steps, trained, data, taught(job, picked), judge, seed, job.others, promise(job, payload, picked.compress or ())
    )


def promise(job: Job, payload: Mapping[str, Any], steps: Sequence[Table]) -> Promise:
    """What the steps of a candidate are held to.

    Where a search weighs quality by itself, steps are not judged: it costs a pass over the validation rows for each.
    """
    slow: Sequence[Outcome] = payload.get("slow", ())
    timed = job.base is not None or bool(payload.get("final"))
    return Promise(
        job.task.metrics[0],
        job.spec.goal.allow_loss,
        signed(job.task.metrics[0], job.base.quality) if job.base else None,
        slow={outcome.place: outcome for outcome in slow},
        insisted=frozenset(place for place, step in enumerate(steps) if step.get(INSIST) or payload.get(INSIST)),
        keep=job.blobs.put if job.blobs and timed else None,
        finished=job.finished if job.base else None,
    )


def picked_spec(job: Job, picks: Mapping[str, Any]) -> Spec:
    """The spec of a run with its ranges answered by a trial's settings."""
    return pick(job.spec, lookup(picks), job.live.kind if job.live else None)


def same(job: Job, picks: Mapping[str, Any]) -> Mapping[str, Any]:
    """What two settings share that make the same candidate: the canonical form of an arch that has one.

    The picks themselves where it has none.
    """
    arch = picked_spec(job, picks).arch
    canonical = getattr(decode("arch", arch), "canonical", None) if arch else None
    if canonical is None:
        return picks
    others = {name: value for name, value in picks.items() if name.partition(".")[0] != "arch"}
    return {**others, "arch": canonical()}


def untrained(job: Job, picked: Spec, train: Dataset, seed: int) -> Model:
    """The model before training: preparation fitted, weights drawn from the seed."""
    from modelmill.prepare.chain import prepare

    arch: Arch | Heir | None = decode("arch", picked.arch) if picked.arch else None
    kind = features_kind(train, picked.arch)
    prepared = prepare([decode("prepare", step) for step in picked.prepare], train, kind)
    if isinstance(arch, Heir):
        value = arch(job.bases[arch.model], job.signature, prepared.shape, seed)
    else:
        value = arch(job.signature, prepared.shape, seed) if arch else None
    body = Body(arch.body, value, picked.arch, tuple(prepared.shape)) if arch else job.live
    assert body is not None, "a run has an arch or a live body"
    before = (f"train.before: as {arch.model}",) if isinstance(arch, Heir) else ()
    return Model((Part(body, prepared.fragment),), job.signature, before)


def features_kind(data: Dataset, arch: Mapping[str, Any] | None = None) -> str:
    """What the arch takes them for where it says so, else as what some arch can read them, as they are first.

    Images and sequences are themselves where they are the only input; all else is a table. Raises SpecError for an arch
    that can read them as nothing.
    """
    options = arch.get("any", [arch]) if arch else []
    kinds = [option.get("kind") for option in options] or [None]
    if kinds[0] in ASKED and all(kind == kinds[0] for kind in kinds):
        return str(kinds[0])
    kind = FEATURES_OF.get(data.fields[0].kind, "table") if len(data.fields) == 1 else "table"
    taken = [find("arch", option["method"]).kinds for option in options]
    for option, known in zip(options, taken, strict=True):
        if not known.intersection(READ_AS[kind]):
            said = f"takes {' or '.join(sorted(known))} features, and these data are a {kind}"
            raise SpecError(f"arch.{option['method']}", said, "Choose a body for them: `modelmill methods arch`.")
    return next((read for read in READ_AS[kind] if any(read in known for known in taken)), kind)


def quality(job: Job, valid: Dataset) -> Judge:
    """The first objective on the validation rows, signed so that higher is better."""
    from modelmill.evaluate.judge import predict
    from modelmill.graph.export import export
    from modelmill.metrics.score import score

    name = job.task.metrics[0]

    def judge(model: Model) -> float:
        if valid.rows == 0:
            return float("nan")
        assert valid.target is not None, "a search has a target"
        value = score([name], predict(export(model, job.task), valid), valid.target, job.signature.classes)[name]
        return signed(name, value)

    return judge


def signed(metric: str, value: float) -> float:
    """The value of a metric with a sign so that higher is better."""
    from modelmill.metrics.score import better

    return value if better(metric) == "higher" else -value


def metric_names(job: Job) -> list[str]:
    """All metrics of a run: those of the goal and those of the task."""
    from modelmill.method import names

    known = names("metrics")
    goal = job.spec.goal
    asked = [*(name for name, _ in goal.objectives), *goal.reach, *goal.limit]
    return list(dict.fromkeys([*(name for name in asked if name in known), *job.task.metrics]))
