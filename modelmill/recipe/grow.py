"""One candidate, from settings to a graph: prepare, build, train, compress, judge. Runs in a worker process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelmill.contracts import Arch, Judge, Outputs, Task
from modelmill.dataset import Dataset, Splits, concat
from modelmill.method import Method, decode, find, settings
from modelmill.model import Body, Model, Part
from modelmill.signature import Signature
from modelmill.space import Dimension
from modelmill.spec import Spec, pick
from modelmill.trial import Progress

TRAIN_SHARE = 0.65
"""The part of a trial's time that training takes where a step retrains after it."""

LEAST_S = 0.5
"""What a step gets to retrain in, however late it is."""

FEATURES_OF = {"image": "image"}
"""Kind of the only input: kind of features; all else is a table."""


@dataclass(frozen=True, eq=False)
class Job:
    """What every trial of a run shares; `live` is a body that was given instead of an arch."""

    spec: Spec
    splits: Splits
    signature: Signature
    task: Task
    live: Body | None = None


def lookup(picks: Mapping[str, Any]) -> Callable[[Dimension], Any]:
    """Answers dimensions from settings; one that is not there takes its default, or its first value."""

    def choose(dimension: Dimension) -> Any:
        if dimension.name in picks:
            return picks[dimension.name]
        if dimension.default is not None:
            return dimension.default
        return dimension.options[0] if dimension.options else dimension.low

    return choose


def worker(job: Job) -> Callable[[Mapping[str, Any]], Iterator[Any]]:
    """What a worker process does with a payload: a trial, or the final model of the run."""
    import multiprocessing
    import warnings

    from modelmill.evaluate.judge import predict

    if multiprocessing.parent_process() is not None:
        # What a library has to say about one candidate would stand between the lines of all others.
        warnings.simplefilter("ignore")

    def run(payload: Mapping[str, Any]) -> Iterator[Any]:
        if payload.get("final"):
            yield from final(job, payload)
            return
        reason, costs = refuse(job, payload["settings"])
        if reason:
            yield {"refused": reason, "costs": costs}
            return
        outputs: list[Outputs] = []
        graphs: list[bytes] = []
        notes: tuple[str, ...] = ()
        folds = fold(job.splits, int(job.spec.search.get("folds", 1)), job.spec.seed)
        seconds = float(payload.get("seconds") or 0) / len(folds)
        for number, data in enumerate(folds):
            for progress in grow(job, {**payload, "seed": payload["seed"] + number}, data, seconds):
                if progress.result is not None:
                    graphs.append(progress.result.body.value)
                    notes = notes or progress.result.history
                elif number == 0:
                    yield {"step": progress.step, "values": dict(progress.values)}
            outputs.append(predict(graphs[-1], data.valid))
        yield {**judged(job, outputs, [data.valid for data in folds]), "artifact": graphs[0], "notes": list(notes)}

    return run


def fold(splits: Splits, folds: int, seed: int) -> list[Splits]:
    """The splits themselves, or `folds` ways to cut train and validation; the test set is the same in all."""
    if folds <= 1:
        return [splits]
    whole = concat(splits.train, splits.valid)
    side = _sides(whole, folds, seed)
    return [replace(splits, train=whole.take(side != i), valid=whole.take(side == i)) for i in range(folds)]


def _sides(data: Dataset, folds: int, seed: int) -> np.ndarray[Any, Any]:
    """(rows,) the fold of each row, equal classes spread evenly, groups kept together."""
    order = np.random.default_rng(seed).permutation(data.rows)
    if data.groups is not None:
        _, ids = np.unique(data.groups.astype(str), return_inverse=True)
        return np.random.default_rng(seed).permutation(ids.max() + 1)[ids] % folds
    assert data.target is not None, "only data with a target is folded"
    by_target = order[np.argsort(data.target[order], kind="stable")]
    side = np.empty(data.rows, np.int64)
    side[by_target] = np.arange(data.rows) % folds
    return side


def grow(job: Job, payload: Mapping[str, Any], data: Splits, seconds: float) -> Iterator[Progress]:
    """Make one candidate and yield progress; the last one holds the model, its body a finished graph."""
    started = time.monotonic()
    trained = yield from train(job, payload, data, seconds)
    left = max(LEAST_S, seconds - (time.monotonic() - started)) if seconds else 0.0
    yield from mill(job, payload, trained, data, left)


def train(job: Job, payload: Mapping[str, Any], data: Splits, seconds: float) -> Generator[Progress, None, Model]:
    """Prepare, build and fit; yields progress and returns the trained model, not yet compressed."""
    picked = picked_spec(job, payload["settings"])
    trained = model = untrained(job, picked, data.train, payload["seed"])
    table = dict(picked.train)
    share = TRAIN_SHARE if any("seconds" in settings(step) for step in milling(picked)) else 1.0
    known = settings(find("train", table["method"]))
    table |= {"seconds": share * seconds} if seconds and "seconds" in known else {}
    table |= {"epochs": payload["epochs"]} if payload.get("epochs") and "epochs" in known else {}
    trainer = decode("train", table)
    for progress in trainer(model, data, job.task, quality(job, data.valid), payload["seed"]):
        yield replace(progress, result=None, values=_of_epoch(progress))
        trained = progress.result or trained
    return trained


def _of_epoch(progress: Progress) -> Mapping[str, float]:
    """What belongs on a learning curve: the last progress of a training tells of the weights that were kept."""
    if progress.result is None:
        return progress.values
    return {name: value for name, value in progress.values.items() if name == "best_epoch"}


def milling(picked: Spec) -> list[type[Method]]:
    """The classes of a trial's compression steps."""
    return [find("compress", step["method"]) for step in picked.compress]


def mill(job: Job, payload: Mapping[str, Any], trained: Model, data: Splits, seconds: float) -> Iterator[Progress]:
    """Compress a trained model by the steps of its settings; the last progress holds a finished graph.

    What retrains shares the seconds that are left.
    """
    from modelmill.compress import chain

    picked = picked_spec(job, payload["settings"])
    timed = ["seconds" in settings(step) for step in milling(picked)]
    steps = [
        decode("compress", {**table, "seconds": seconds / sum(timed)} if seconds and limited else table)
        for table, limited in zip(picked.compress, timed, strict=True)
    ]
    yield from chain.run(steps, trained, data, job.task, quality(job, data.valid), payload["seed"])


def picked_spec(job: Job, picks: Mapping[str, Any]) -> Spec:
    """The spec of a run with its ranges answered by a trial's settings."""
    return pick(job.spec, lookup(picks), job.live.kind if job.live else None)


def untrained(job: Job, picked: Spec, train: Dataset, seed: int) -> Model:
    """The model before training: preparation fitted, weights drawn from the seed."""
    from modelmill.prepare.chain import prepare

    arch: Arch | None = decode("arch", picked.arch) if picked.arch else None
    kind = features_kind(train)
    if arch is not None and kind not in arch.kinds:
        kind = "table"
    prepared = prepare([decode("prepare", step) for step in picked.prepare], train, kind)
    body = job.live if arch is None else Body(arch.body, arch(job.signature, prepared.shape, seed), picked.arch)
    assert body is not None, "a run has an arch or a live body"
    return Model((Part(body, prepared.fragment),), job.signature)


def features_kind(data: Dataset) -> str:
    """ "image" where the only input is an image, else "table"."""
    return FEATURES_OF.get(data.fields[0].kind, "table") if len(data.fields) == 1 else "table"


def quality(job: Job, valid: Dataset) -> Judge:
    """The first objective on the validation rows, signed so that higher is better."""
    from modelmill.evaluate.judge import predict
    from modelmill.graph.export import export
    from modelmill.metrics.score import better, score

    name = objective(job)

    def judge(model: Model) -> float:
        if valid.rows == 0:
            return float("nan")
        assert valid.target is not None, "a search has a target"
        value = score([name], predict(export(model, job.task), valid), valid.target, job.signature.classes)[name]
        return value if better(name) == "higher" else -value

    return judge


def objective(job: Job) -> str:
    """The metric that decides: the first objective that is a metric, or the task's own."""
    from modelmill.method import names

    known = names("metrics")
    return next((name for name, _ in job.spec.goal.objectives if name in known), job.task.metrics[0])


def metric_names(job: Job) -> list[str]:
    """All metrics of a run: those of the goal and those of the task."""
    from modelmill.method import names

    known = names("metrics")
    goal = job.spec.goal
    asked = [*(name for name, _ in goal.objectives), *goal.reach, *goal.limit]
    return list(dict.fromkeys([*(name for name in asked if name in known), *job.task.metrics]))


def judged(job: Job, outputs: Sequence[Outputs], valid: Sequence[Dataset]) -> dict[str, Any]:
    """Metrics over the validation rows of all folds together, and the standard error of the first."""
    from modelmill.metrics.score import interval, score

    together = {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}
    targets = np.concatenate([part.target for part in valid if part.target is not None])
    metrics = score(metric_names(job), together, targets, job.signature.classes)
    low, high = interval(objective(job), together, targets, job.signature.classes, seed=job.spec.seed)
    return {"metrics": metrics, "spread": (high - low) / (2 * 1.96)}


def refuse(job: Job, picks: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Why a candidate cannot keep its limits on size or latency, and the least that it costs; "" where it may.

    Both are known from its untrained graph.
    """
    from modelmill.graph.export import export

    limits = {name: job.spec.goal.limit[name] for name in ("size_kb", "latency_ms") if name in job.spec.goal.limit}
    picked = picked_spec(job, picks)
    if not limits or not picked.arch or find("arch", picked.arch["method"]).body != "network":
        return "", {}
    graph = export(untrained(job, picked, job.splits.train, 0), job.task)
    share = smallest_share(picked.compress)
    costs: dict[str, float] = {
        name: share * (len(graph) / 1000 if name == "size_kb" else shortest_ms(graph, job.splits.train))
        for name in limits
    }
    over = [f"{name} {costs[name]:.3g} (limit {limit:g})" for name, limit in limits.items() if costs[name] > limit]
    return (f"at the least it costs {', '.join(over)}, as its untrained graph shows" if over else ""), costs


def shortest_ms(graph: bytes, data: Dataset, runs: int = 20) -> float:
    """The shortest of some runs of one row: no faster does the graph get, however busy the machine is."""
    from modelmill.runtime.rows import from_dataset
    from modelmill.runtime.session import Session

    session = Session(graph)
    row = from_dataset(data.take(np.arange(1)))
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        session.run(row)
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def smallest_share(steps: Sequence[Mapping[str, Any]]) -> float:
    """The share of its bytes that a graph can at best keep after the steps: a bound, not an estimate."""
    share = 1.0
    for step in steps:
        family = step["method"].partition(".")[0]
        if family == "quantize":
            share *= 0.25
        elif family in ("prune", "distill"):
            share *= (
                (1 - float(step.get("ratio", 0.5))) ** 2 if family == "prune" else float(step.get("ratio", 0.5)) ** 2
            )
    return share


def final(job: Job, payload: Mapping[str, Any]) -> Iterator[Any]:
    """The winner made anew on train and validation rows, and the same model uncompressed, as a last value."""
    from modelmill.graph.export import export

    rows = job.splits
    data = replace(rows, train=concat(rows.train, rows.valid), valid=rows.valid.take(NOTHING))
    seconds = float(payload.get("seconds") or 0)
    started = time.monotonic()
    trained = yield from shown(train(job, payload, data, seconds))
    left = max(LEAST_S, seconds - (time.monotonic() - started)) if seconds else 0.0
    milled = trained
    for progress in mill(job, payload, trained, data, left):
        yield {"step": progress.step, "values": dict(progress.values)}
        milled = progress.result or milled
    yield {
        "artifact": milled.body.value,
        "baseline": export(trained, job.task),
        "notes": list(milled.history),
        "body": further(trained),
    }


def shown(steps: Generator[Progress, None, Model]) -> Generator[dict[str, Any], None, Model]:
    """Progress as the messages that a worker sends; returns what the steps return."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            model: Model = end.value
            return model
        yield {"step": progress.step, "values": dict(progress.values)}


def further(model: Model) -> dict[str, bytes]:
    """What further milling needs beside the graph: a network's weights and the table of its arch, by file name."""
    import msgspec

    if model.body.kind != "network":
        return {}
    from safetensors.torch import save

    weights = {name: tensor.detach().contiguous() for name, tensor in model.body.value.state_dict().items()}
    return {"body.safetensors": save(weights), "body.json": msgspec.json.encode(model.body.arch)}


NOTHING = np.zeros(0, np.int64)
