"""The first step: read the data, look at them, and settle what the run is about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelmill.checking import check
from modelmill.compress.distill.teachers import order
from modelmill.contracts import Task
from modelmill.dataset import Dataset, Splits
from modelmill.errors import ContentError, SpecError, UnknownName
from modelmill.finding import Finding
from modelmill.method import decode, find, names
from modelmill.model import Body, Kind, Model
from modelmill.recipe.defaults import complete
from modelmill.recipe.grow import features_kind
from modelmill.recipe.job import Job
from modelmill.signature import NO_DATE, Signature
from modelmill.spec import COSTS, Goal, Spec, Table

PATHS = ("path", "test")
"""What a table of data says of where: the data themselves have a digest."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the data turned out to be: the job of the search, findings and the data card."""

    job: Job
    findings: tuple[Finding, ...]
    card: dict[str, Any]
    goal: Goal
    """What the search is held to: the spec's goal, and, where a version is compressed, the least quality."""

    @property
    def kind(self) -> Kind | None:
        """The kind of body that every candidate begins with, where no arch makes one."""
        return self.job.live.kind if self.job.live else None


def look(
    spec: Spec,
    live: Body | None = None,
    data: Dataset | None = None,
    bases: Mapping[str, Body] | None = None,
    others: Mapping[str, Model] | None = None,
) -> Look:
    """Read, split and check the data, fill in the spec, and say what goes in and out of the model.

    Raises DataError where no model can be made of the data, UsageError where the spec does not fit them.
    """
    from modelmill.data.card import card
    from modelmill.data.inspect import inspect
    from modelmill.data.read import read
    from modelmill.data.split import split
    from modelmill.data.target import for_task
    from modelmill.prepare.chain import defaults
    from modelmill.task.infer import infer
    from modelmill.task.names import check_names

    data = data or read(spec.data)
    if data.target is None:
        raise ContentError(data.origin, "there is no column to predict", "Name one with --target.")
    name = str(spec.task.get("method") or infer(data.target, data.target_name))
    data = for_task(data, name)
    splits = split(data, spec.seed, name)
    findings = tuple(inspect(splits))
    kind = features_kind(data, spec.arch)
    spec = complete(spec, data, kind, name, list(defaults(data.fields, kind)), live)
    task = decode("task", spec.task)
    spec = msgspec.structs.replace(spec, goal=aimed(spec.goal, task))
    check(spec, live.kind if live else None)
    check_metrics(spec.goal, name)
    check_train(spec.train, name, kind)
    task = led(task, spec.goal)
    classes = () if name == "regress" else _classes(splits)
    signature = Signature(
        task=name,
        inputs=data.fields,
        outputs=task.declare(classes),
        classes=classes,
        target=data.target_name,
        example=tuple(plain(splits.train.columns[field.name][0], field.kind) for field in data.fields),
    )
    check_names(signature)
    for other in (others or {}).values():
        order(signature, other.signature, data.fields)
    job = Job(spec, splits, signature, task, live, bases or {}, others=others or {})
    return Look(job, findings, card(data, findings), spec.goal)


def aimed(goal: Goal, task: Task) -> Goal:
    """The goal with something to aim at: what is to be reached, or the task's first metric."""
    from modelmill.metrics.score import better

    if goal.objectives:
        return goal
    name = next(iter(goal.reach), task.metrics[0])
    side = "maximize" if better(name) == "higher" else "minimize"
    return msgspec.structs.replace(goal, **{side: (name,)})


def led(task: Task, goal: Goal) -> Task:
    """The task with the first objective that is a metric before its other metrics."""
    first = [name for name, _ in goal.objectives if name not in COSTS][:1]
    return dataclasses.replace(task, metrics=tuple(dict.fromkeys([*first, *task.metrics])))


def check_metrics(goal: Goal, task: str) -> None:
    """Refuse a metric that does not speak of the task: accuracy of values, say."""
    known = names("metrics")
    fitting = [name for name in known if task in find("metrics", name).tasks]
    for name in (*(name for name, _ in goal.objectives), *goal.reach, *goal.limit):
        if name in known and name not in fitting:
            raise UnknownName.among("goal", f"metric of the task {task}", name, fitting)


OF_CLASSES = ("focal", "smoothing", "class_weights")
"""Settings of a training that speak of classes."""


def check_train(train: Table, task: str, kind: str) -> None:
    """Refuse what every trial would: settings for classes where there are none, augmentations for other features."""
    for option in train.get("any", [train]):
        where = f"train.{option.get('method', '')}"
        for key in OF_CLASSES if task == "regress" else ():
            if option.get(key) not in (None, 0, "none"):
                raise SpecError(f"{where}.{key}", "there are no classes to tell apart", "Leave it out for numbers.")
        for step in option.get("augment") or ():
            for name in [table["method"] for table in step.get("any", [step]) if "method" in table]:
                kinds = find("augment", name).kinds
                if kind not in kinds:
                    said = f"takes {' and '.join(sorted(kinds))} features, and these are a {kind}"
                    raise SpecError(f"{where}.augment.{name}", said, "Leave the step out; mixup takes both.")


def _classes(splits: Splits) -> Any:
    labels = np.concatenate([part.target for part in (splits.train, splits.valid) if part.target is not None])
    return tuple(np.unique(labels.astype(str) if labels.dtype == object else labels).tolist())


def plain(value: Any, kind: str) -> Any:
    """A value of a column as JSON holds it: missing is null, a date is ISO text.

    >>> plain(np.int64(0), "date")
    '1970-01-01T00:00:00'
    """
    if kind == "date":
        return None if value == NO_DATE else str(np.datetime64(int(value), "ms").astype("datetime64[s]"))
    if isinstance(value, np.ndarray):
        return value.tolist()
    item = value.item() if isinstance(value, np.generic) else value
    return None if item == "" or (isinstance(item, float) and item != item) else item


def digest_of(spec: Spec) -> str:
    """SHA-256 of a spec: what to do, without where."""
    import hashlib

    data = {key: value for key, value in spec.data.items() if key not in PATHS}
    told = msgspec.structs.replace(spec, data=data)
    return "sha256:" + hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()


def located(spec: Spec) -> Spec:
    """The spec with paths that hold in any folder."""
    data = {key: str(Path(value).absolute()) if key in PATHS and value else value for key, value in spec.data.items()}
    return msgspec.structs.replace(spec, data=data)
