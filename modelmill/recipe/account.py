"""The account of a run: the report with its figures, words and lineage, and whether the result becomes live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import numpy as np

from modelmill.dataset import concat
from modelmill.evaluate.judge import REPORTED, energy_is_modelled, evaluate
from modelmill.graph.digest import digest
from modelmill.method import find
from modelmill.recipe.bases import cut_by
from modelmill.recipe.grow import features_kind
from modelmill.recipe.look import Look, digest_of
from modelmill.recipe.make import Made
from modelmill.registry.registry import Registry
from modelmill.release import __version__
from modelmill.report import Baseline, Counts, Data, Lineage, Report
from modelmill.signature import Signature
from modelmill.spec import Goal, as_table
from modelmill.trial import Trial
from modelmill.version import LIVE, Version

TOOLS = ("modelmill", "numpy", "onnxruntime", "onnx", "torch", "scikit-learn", "optuna")


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes live, and why, in words."""

    live: bool
    why: str
    parent: str | None = None
    """The version that was live before."""

    @property
    def words(self) -> str:
        """The decision as the end of a sentence."""
        return f"it is {'live' if self.live else 'not live'}, since {self.why}"


def report(
    seen: Look,
    made: Made,
    trials: Sequence[Trial],
    seconds: float,
    parent: str | None,
    left: Mapping[int, str] = {},
) -> Report:
    """Everything a run found out, not yet published: version 0, not live.

    left: why candidates were not taken that keep the limits, by number, where that is known.
    """
    job = seen.job
    return Report(
        name=job.spec.name,
        version=0,
        live=False,
        task=job.signature.task,
        data=Data(job.splits.digest, _rows(seen), _features(seen)),
        metrics=made.metrics,
        costs=_reported(made.costs),
        baseline=Baseline(made.plain_metrics, _reported(made.plain_costs)),
        limits=made.limits,
        pareto=_pareto(seen.goal, trials),
        trials=_counts(trials),
        seconds=round(seconds, 3),
        spec=as_table(job.spec),
        lineage=Lineage(
            model=digest(made.artifact),
            data=job.splits.digest,
            spec=digest_of(job.spec),
            parent=job.base.reference if job.base else parent,
            tools=tools(),
        ),
        details=_details(seen, made, trials, left),
    )


def stays(
    seen: Look, registry: Registry, made: Made, trials: Sequence[Trial], seconds: float, left: Mapping[int, str]
) -> Report:
    """The account of a run after which a version stays as it is: nothing was better than it."""
    assert seen.job.base is not None, "only a version that is compressed can stay"
    version = registry.find(seen.job.base.reference)
    found = report(seen, made, trials, seconds, version.lineage.parent, left)
    found.details["stays"] = True
    found.details["live_why"] = "no candidate was smaller or faster and within the allowed loss"
    return msgspec.structs.replace(found, version=version.number, live=LIVE in version.aliases, lineage=version.lineage)


def signature(seen: Look, made: Made) -> Signature:
    """What goes in and out of what was made, and whether its answers are those of a series."""
    steps = [find("compress", outcome.step) for outcome in made.steps if outcome.kept]
    series = seen.job.signature.series or any(step.series for step in steps)
    return msgspec.structs.replace(seen.job.signature, series=series)


def sketch(seen: Look, made: Made) -> bytes:
    """What later rows are watched against: the rows that the model was made from, and its answers to the test rows.

    Not its answers to rows that it learned from: it is surer of those than of any that follow.
    """
    from modelmill.monitor.reference import reference

    splits = seen.job.splits
    return reference(made.outputs, concat(splits.train, splits.valid))


def _rows(seen: Look) -> int:
    return sum(part.rows for part in (seen.job.splits.train, seen.job.splits.valid, seen.job.splits.test))


def _features(seen: Look) -> int:
    """How many numbers, words and dates a row holds: pixels for images."""
    return int(sum(np.prod(column.shape[1:], dtype=np.int64) for column in seen.job.splits.train.columns.values()))


def _reported(costs: Mapping[str, float]) -> dict[str, float | None]:
    return {name: costs.get(name) for name in REPORTED}


def _pareto(goal: Any, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    from modelmill.search.pareto import front

    return [
        {"trial": trial.number, "metrics": trial.metrics, "costs": trial.costs, "settings": trial.settings}
        for trial in front(trials, goal)
    ]


def _counts(trials: Sequence[Trial]) -> Counts:
    states = [trial.state for trial in trials]
    return Counts(
        done=states.count("done"),
        stopped=states.count("stopped") + states.count("refused"),
        failed=states.count("failed"),
    )


def tools() -> dict[str, str]:
    """The versions of the libraries that had a hand in the model."""
    found = {"modelmill": __version__}
    for name in TOOLS[1:]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _details(seen: Look, made: Made, trials: Sequence[Trial], left: Mapping[int, str]) -> dict[str, Any]:
    from modelmill.evaluate.details import confusion, latency, residuals
    from modelmill.evaluate.diagnosis import diagnose
    from modelmill.evaluate.words import why_lost

    job = seen.job
    test = job.splits.test
    name = job.task.metrics[0]
    assert test.target is not None, "a test set has a target"
    taught = test.target.dtype.names  # another model's answers in place of the truth
    names = list(dict.fromkeys([name, "accuracy" if job.signature.classes else name if taught else "r2"]))
    train = evaluate(made.artifact, job.splits.train, job.signature, names, "train", seed=job.spec.seed)
    found: dict[str, Any] = {
        "findings": msgspec.to_builtins(seen.findings),
        "card": seen.card,
        "trials": msgspec.to_builtins(list(trials)),
        "winner": made.trial.number,
        "notes": list(made.notes),
        **_searched(trials, seen.goal, name),
        **_milled(seen, made, trials),
        "energy_modelled": energy_is_modelled(),
        "words": diagnose(
            made.trial.curve,
            {key: value.value for key, value in train.items()},
            {key: value.value for key, value in made.metrics.items()},
            str(made.trial.settings.get("arch") or job.spec.arch.get("method", "")),
        ),
        "runners_up": why_lost(trials, seen.goal, made.trial.number, left),
        "latency": latency(made.costs, made.plain_costs),
        "kind": features_kind(test),
    }
    if job.signature.classes:
        found["confusion"] = confusion(made.outputs, test.target, job.signature.classes)
    elif not taught:
        found["residuals"] = residuals(made.outputs, test.target, job.spec.seed)
    return found


def _milled(seen: Look, made: Made, trials: Sequence[Trial]) -> dict[str, Any]:
    """What became of the steps of compression, on which machines that holds, and how much earlier runs had done."""
    from modelmill.recipe.machines import machines

    job = seen.job
    found: dict[str, Any] = {
        "steps": msgspec.to_builtins(list(made.steps)),
        "machines": machines(made.artifact, job.splits.valid, job.signature, job.task.metrics[0]),
    }
    if job.base:
        taken = [outcome for trial in trials for outcome in trial.steps if outcome.size_bytes]
        found |= {
            "base": job.base.reference,
            "agreement": job.base.agreement,
            "allow_loss": job.spec.goal.allow_loss,
            "reused": [sum(outcome.reused for outcome in taken), len(taken)],
            "latency_ratio": [made.costs.get(f"latency_ratio{end}") for end in ("", "_low", "_high")],
        }
    return found


def _searched(trials: Sequence[Trial], goal: Goal, metric: str) -> dict[str, Any]:
    """What the search found out about itself: what mattered, for every figure that was asked about, and its course."""
    from modelmill.evaluate.importance import shares
    from modelmill.search.course import improvements, volumes, walked

    asked = [*(name for name, _ in goal.objectives), *goal.limit]
    course = {"moves": improvements(trials, goal), "volumes": volumes(trials, goal)}
    chains = msgspec.to_builtins(walked(trials, goal))
    return {**shares(trials, asked, metric), "course": course, **({"chains": chains} if chains else {})}


def decide(registry: Registry, seen: Look, made: Made, promote: bool) -> Decision:
    """Whether the new version becomes live: the first does; a later one when asked, or better within the same limits.

    The version that is live answers the same test rows, so that both are judged on equal terms.
    """
    from modelmill.errors import UnknownModel
    from modelmill.metrics.score import better

    name = seen.job.spec.name
    try:
        live = registry.find(name)
    except UnknownModel:
        return Decision(True, "it is the first version")
    if promote:
        return Decision(True, f"--promote was given; {live.reference} was live before", live.reference)
    if seen.job.base and seen.job.base.agreement:
        why = f"no truth says that it is better than {live.reference}; `modelmill models promote` makes it live"
        return Decision(False, why, live.reference)
    if live.signature.inputs != seen.job.signature.inputs or live.signature.task != seen.job.signature.task:
        return Decision(
            False, f"{live.reference} takes other rows; promote it by hand if that is meant", live.reference
        )
    if not made.keeps:
        return Decision(False, f"it does not keep its limits, and {live.reference} stays live", live.reference)
    metric = seen.job.task.metrics[0]
    old = _score(registry.file(live, "model.onnx"), seen, metric)
    new = made.metrics[metric].value
    sign = 1 if better(metric) == "higher" else -1
    said = f"{metric} {new:.4f} against {old:.4f} of {live.reference} on the same test rows"
    if _other_split(registry, live, seen):
        said += ", some of which it may have learned from, since its data were split with another seed"
    if sign * (new - old) > 0:
        return Decision(True, f"it is better: {said}", live.reference)
    if new == old and len(made.artifact) < live.sizes["model.onnx"]:
        return Decision(True, f"it is as good and smaller: {said}", live.reference)
    return Decision(False, f"it is not better: {said}; `modelmill models promote` makes it live", live.reference)


def _other_split(registry: Registry, live: Version, seen: Look) -> bool:
    """Whether a version was made of the same data, split otherwise."""
    data, job = seen.job.splits.digest, seen.job
    if live.lineage.data != data:
        return False
    parent = registry.find(job.base.reference) if job.base else None
    seed = cut_by(parent, registry).seed if parent and parent.lineage.data == data else job.spec.seed
    return cut_by(live, registry).seed != seed


def _score(graph: bytes, seen: Look, metric: str) -> float:
    job = seen.job
    return evaluate(graph, job.splits.test, job.signature, [metric], "test", seed=job.spec.seed)[metric].value
