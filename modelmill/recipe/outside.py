"""A model from outside becomes a version: named, described, and published without figures of quality."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from modelmill.evaluate.judge import REPORTED
from modelmill.graph.digest import digest
from modelmill.model import Model
from modelmill.recipe.account import tools
from modelmill.registry.formats import refuse_others
from modelmill.registry.importers.onnx import Onnx
from modelmill.registry.registry import Registry
from modelmill.report import Baseline, Counts, Data, Lineage, Report


@dataclass(frozen=True)
class Imported:
    """A model that was read, and where from."""

    path: Path
    model: Model
    source: str
    """The digest of the file."""
    seconds: float


def take(path: str | Path, importer: Onnx) -> Imported:
    """The model in a file. Raises ModelError for a file that is refused, and for other formats, with the way in."""
    started = time.monotonic()
    refuse_others(Path(path))
    model = importer(str(path))
    with Path(path).open("rb") as file:
        source = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return Imported(Path(path), model, source, time.monotonic() - started)


def name_for(path: Path) -> str:
    """A name for the model in a file: its stem, with what no name may hold replaced.

    >>> name_for(Path("My model (2).onnx"))
    'My-model-2'
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")
    return re.sub(r"\.{2,}", ".", plain)[:100] or "model"


def publish(imported: Imported, name: str, registry: Registry, importer: Onnx, promote: bool) -> Report:
    """Publish the model as the next version of a name; its report."""
    model = imported.model
    graph: bytes = model.body.value
    costs = {cost: float(len(graph)) if cost == "size_bytes" else None for cost in REPORTED}
    report = Report(
        name=name,
        version=0,
        live=False,
        task=model.signature.task,
        data=Data("", 0, 0),
        metrics={},
        costs=costs,
        baseline=Baseline({}, costs),
        limits={},
        pareto=[],
        trials=Counts(),
        seconds=round(imported.seconds, 3),
        spec={"import": {"file": imported.path.name, **importer.as_table()}},
        lineage=Lineage(model=digest(graph), source=imported.source, tools=tools()),
        details={"notes": list(model.history)},
    )
    version = registry.publish(
        name,
        {"model.onnx": graph},
        model.signature,
        report,
        report.lineage,
        promote or None,
        f"imported from {imported.path.name}",
    )
    return registry.report(version)
