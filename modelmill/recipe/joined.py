"""Publishes a pipeline: finds the versions of its steps, checks that they fit each other, and pins them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelmill import pipeline
from modelmill.errors import SourceError, SpecError
from modelmill.pipeline import Pipeline, plan
from modelmill.recipe.account import tools
from modelmill.registry.registry import Registry
from modelmill.report import Baseline, Counts, Data, Lineage, Report
from modelmill.version import Version


def publish(name: str, steps: str | Path | Mapping[str, Any], registry: Registry, promote: bool) -> Version:
    """The new version. Raises SpecError, SourceError, UnknownModel."""
    given = _read(steps)
    found = {step.model: registry.find(step.model) for step in given.steps}
    for reference, version in found.items():
        if pipeline.FILE in version.files:
            raise SpecError("steps", f"{reference} is a pipeline itself", "Name its steps.")
    pinned = [msgspec.structs.replace(step, model=found[step.model].reference) for step in given.steps]
    made, signature = plan(Pipeline(tuple(pinned), given.outputs), {v.reference: v.signature for v in found.values()})
    costs: dict[str, float | None] = {"size_bytes": float(sum(v.sizes["model.onnx"] for v in found.values()))}
    lineage = Lineage(tools=tools())
    report = Report(
        name=name,
        version=0,
        live=False,
        task=signature.task,
        data=Data("", 0, 0),
        metrics={},
        costs=costs,
        baseline=Baseline({}, costs),
        limits={},
        pareto=[],
        trials=Counts(),
        seconds=0.0,
        spec={"pipeline": msgspec.to_builtins(made)},
        lineage=lineage,
    )
    files = {pipeline.FILE: msgspec.json.encode(made)}
    notes = "a pipeline of " + ", ".join(step.model for step in made.steps)
    return registry.publish(name, files, signature, report, lineage, promote or None, notes)


def _read(steps: str | Path | Mapping[str, Any]) -> Pipeline:
    if isinstance(steps, Mapping):
        where, table = "pipeline", dict(steps)
    else:
        where = str(steps)
        try:
            table = tomllib.loads(Path(steps).read_text("utf-8"))
        except OSError as error:
            raise SourceError(where, f"cannot be read: {error.strerror}", "Name a file that can.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SpecError(where, f"is not TOML: {error}", "") from None
    try:
        return msgspec.convert(table, Pipeline)
    except msgspec.ValidationError as error:
        raise SpecError(where, str(error), "Write [[steps]] with model, inputs and outputs.") from None
