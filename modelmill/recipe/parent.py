"""The first step where a published version is compressed: the version, its rows or others, and what it is held to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from modelmill.checking import check
from modelmill.compress.distill.teachers import order
from modelmill.contracts import Task
from modelmill.dataset import Dataset, Splits
from modelmill.errors import ContentError, ModelError, SourceError, SpecError, UnknownName
from modelmill.finding import Finding
from modelmill.method import decode
from modelmill.model import Model
from modelmill.recipe.bases import SEARCHED, cut_by, model_of, others, spec_of
from modelmill.recipe.defaults import recipe
from modelmill.recipe.folds import Plan
from modelmill.recipe.job import Base, Job
from modelmill.recipe.look import Look, led
from modelmill.registry.registry import Registry
from modelmill.signature import Signature
from modelmill.spec import Goal, Spec
from modelmill.version import Version

ALLOWED = 0.01
"""The loss of quality that is allowed where nobody says."""

SEARCHED_GRAPH = f"{SEARCHED}model.onnx"
"""The graph of a version as it was searched."""

OBJECTIVES = ("size_kb", "latency_ms")
"""What compressing makes small where nobody says."""

ASKED = 64
"""So many rows are asked together and one by one, where a version's own answers stand for the truth."""

ITSELF = 0.99
"""How far both must agree."""

LEAST_ROWS = 20
"""Fewer rows than this tell nothing of a model."""


def look(spec: Spec, registry: Registry, given: Dataset | None = None) -> Look:
    """What is compressed, on which rows, and the spec with all that was not said filled in.

    Raises UnknownModel; DataError where there are no rows, or rows that the version does not take; SpecError for steps
    that cannot take it.
    """
    from modelmill.data.card import card

    version = registry.find(spec.base)
    made_by, cut = spec_of(version, registry), cut_by(version, registry)
    model, served = model_of(version, registry), registry.file(version, "model.onnx")
    spec = complete(spec, version, model, made_by)
    check(spec, model.body.kind)
    data, findings = rows(spec, given, cut, version)
    agreement = data.target is None
    if agreement:
        check_alone(served, data, version.reference)
        data = judged(served, data, version.signature)
    task = led(decode("task", spec.task), made_by.goal)
    splits = parted(data, version, cut.seed, spec.seed)
    searched, graph = model, served
    if version.lineage.data == data.digest:
        if SEARCHED_GRAPH in version.files:
            searched, graph = model_of(version, registry, SEARCHED), registry.file(version, SEARCHED_GRAPH)
            splits = Plan.of(cut.search).cut(splits, cut.seed)[0]
        else:
            findings = (*findings, known_by_heart(version, data))
    base = Base(
        version.reference, model, served, searched, graph, quality_of(graph, task, splits, version.signature), agreement
    )
    teachers = others(spec, registry)
    for other in teachers.values():
        order(version.signature, other.signature, data.fields)
    job = Job(spec, splits, version.signature, task, model.body, base=base, others=teachers)
    return Look(job, findings, card(data, findings), held(spec.goal, job))


def rows(spec: Spec, given: Dataset | None, cut: Spec, version: Version) -> tuple[Dataset, tuple[Finding, ...]]:
    """The rows to compress with: given ones, those that the spec names, else those that the version was made from.

    Where they hold no truth, the version's own answers take its place: a metric then tells how far both agree.
    """
    if given is not None:
        data = fitting(given, version)
    elif spec.data:
        data = read_from(version.signature, str(spec.data.get("path") or spec.data.get("name") or ""))
    else:
        data = own(version, cut)
    if data.rows < LEAST_ROWS:
        said = f"{data.rows} rows; at least {LEAST_ROWS} are needed to measure with"
        raise ContentError(data.origin, said, "Give more rows with --data FILE.")
    if data.target is None:
        said = f"there is no truth in these rows: metrics tell how far answers agree with {version.reference}"
        hint = "Give rows with the target for a true figure."
        return data, (*data.findings, Finding("agreement", "warning", data.origin, said, hint))
    known(data, version)
    return data, data.findings


def read_from(signature: Signature, path: str) -> Dataset:
    """Rows to learn from, as the signature wants them, with the truth where the file has it."""
    from modelmill.data.read import read_for

    if not signature.target:
        return read_for(signature, path, learned=True)
    try:
        return read_for(signature, path, labeled=True, learned=True)
    except UnknownName:
        return read_for(signature, path, learned=True)


def own(version: Version, cut: Spec) -> Dataset:
    """The rows that a version was made from. Raises DataError where they are not there any more, or are others."""
    from modelmill.data.read import read as read_data
    from modelmill.data.target import for_task

    hint = f"Give rows that {version.reference} takes: --data FILE."
    if not cut.data:
        raise ContentError(version.reference, "does not say which rows it was made from", hint)
    try:
        data = for_task(read_data(cut.data), version.signature.task)
    except SourceError as error:
        raise SourceError(error.where, error.message, hint) from None
    return fitting(data, version)


def fitting(data: Dataset, version: Version) -> Dataset:
    """The rows, if they have the columns that the version takes."""
    if data.fields != version.signature.inputs:
        hint = f"Give rows that {version.reference} takes: --data FILE."
        raise ContentError(data.origin, f"the columns are not those that {version.reference} takes", hint)
    return data


def known(data: Dataset, version: Version) -> None:
    """Refuse rows of classes that the version does not know: it can neither be judged by them nor teach them."""
    classes = version.signature.classes
    for part in (data, data.test):
        if not classes or part is None or part.target is None:
            continue
        for label in np.unique(part.target.astype(str) if part.target.dtype == object else part.target).tolist():
            if label not in classes:
                shown = ", ".join(map(str, classes[:8])) + (", ..." if len(classes) > 8 else "")
                said = f"holds the class {label!r}, which {version.reference} does not know: it knows {shown}"
                raise ContentError(part.origin, said, "Leave those rows out, or build a model of these data.")


def judged(served: bytes, data: Dataset, signature: Signature) -> Dataset:
    """The rows, and those of the stated test set, with the version's own answers in the place of the truth."""
    test = None if data.test is None else replace(data.test, target=answers(served, data.test, signature))
    return replace(data, target=answers(served, data, signature), test=test)


def check_alone(served: bytes, data: Dataset, reference: str) -> None:
    """Refuse a version whose answer to a row depends on the rows that are asked with it: who differs from it is then
    no worse. Raises ModelError."""
    from modelmill.evaluate.judge import predict
    from modelmill.metrics.agreement import Agreement
    from modelmill.task.compute import taught

    order = np.arange(min(data.rows, ASKED))
    wanted = predict(served, data.take(order))
    parts = [predict(served, data.take(order[at : at + 1])) for at in order]
    metric = Agreement()
    joined = {name: alike(np.concatenate([part[name] for part in parts]), wanted[name]) for name in wanted}
    found = metric.total(metric.part(joined, taught(wanted), ()))
    if not found >= ITSELF:
        said = f"its answer to a row depends on the rows asked with it: its agreement with itself is {found:.4f}"
        hint = "Give rows with the truth, or export a model whose rows do not depend on each other."
        raise ModelError(reference, f"{said}, so that nothing tells what a step costs", hint)


def alike(said: Any, wanted: Any) -> Any:
    """The answers, with those in place that they differ from by rounding alone.

    >>> alike(np.array([1.0000001, 2.0]), np.array([1.0, 3.0])).tolist()
    [1.0, 2.0]
    """
    if wanted.dtype.kind != "f":
        return said
    return np.where(np.isclose(said, wanted, rtol=1e-3, atol=1e-6, equal_nan=True), wanted, said)


def answers(served: bytes, data: Dataset, signature: Signature) -> Any:
    """The version's own answers, in the place of the truth."""
    from modelmill.evaluate.judge import predict
    from modelmill.task.compute import taught

    given = predict(served, data)
    if signature.task == "compute":
        return taught(given)
    return given["label" if signature.task == "classify" else "value"]


def parted(data: Dataset, version: Version, made_seed: int, seed: int) -> Splits:
    """The rows in three parts: as they were where the version was made from them, so that test rows stay unseen.

    made_seed: by which they were split then; `seed` splits rows that are new to it.
    """
    from modelmill.data.split import split

    same = version.lineage.data == data.digest
    splits = split(data, made_seed if same else seed, version.signature.task)
    for name, part in (("training", splits.train), ("validation", splits.valid), ("test", splits.test)):
        if part.rows == 0:
            raise ContentError(data.origin, f"no rows are left for the {name} part", "Give more rows.")
    return splits


def complete(spec: Spec, version: Version, model: Model, made_by: Spec) -> Spec:
    """The spec with all that was not said: the goal, the steps to choose from, how to search."""
    if spec.arch or spec.train or spec.prepare:
        raise SpecError("base", "nothing is trained from the start where a version is compressed", "Leave arch out.")
    goal = spec.goal
    allowed = ALLOWED if goal.allow_loss is None else goal.allow_loss
    aimed = goal if goal.objectives else msgspec.structs.replace(goal, minimize=OBJECTIVES)
    return msgspec.structs.replace(
        spec,
        name=spec.name or version.name,
        goal=msgspec.structs.replace(aimed, allow_loss=allowed),
        task=made_by.task or {"method": version.signature.task},
        compress=recipe(model, version.signature) if spec.compress is None else spec.compress,
        search={"sampler": {"method": "portfolio"}, "folds": 1, **spec.search},
    )


def held(goal: Goal, job: Job) -> Goal:
    """The goal of the search: what is asked, and the least quality as one more limit."""
    from modelmill.compress.promise import least
    from modelmill.recipe.grow import signed

    if job.base is None or goal.allow_loss is None:
        return goal
    metric = job.task.metrics[0]
    floor = signed(metric, least(metric, signed(metric, job.base.quality), goal.allow_loss))
    return msgspec.structs.replace(goal, limit={**goal.limit, metric: floor})


def quality_of(graph: bytes, task: Task, splits: Splits, signature: Signature) -> float:
    """The metric that decides, of a graph on the validation rows."""
    from modelmill.evaluate.judge import predict
    from modelmill.metrics.score import score

    valid, name = splits.valid, task.metrics[0]
    assert valid.target is not None, "rows without the truth have answers in its place"
    return score([name], predict(graph, valid), valid.target, signature.classes)[name]


def known_by_heart(version: Version, data: Dataset) -> Finding:
    """What to say where the version has learned from the validation rows, and no model is kept that has not."""
    said = f"{version.reference} has learned from the validation rows: what a step costs there says little of new rows"
    return Finding("known", "warning", data.origin, said, "Give rows that are new to it with --data FILE.")
