"""The Python face: build a model, load a version, ask it. Every verb of the command line has its twin here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill import pipeline
from modelmill.errors import ContentError, UnknownModel, UsageError
from modelmill.loaded import Loaded
from modelmill.report import Report
from modelmill.spec import Spec

if TYPE_CHECKING:
    from modelmill.contracts import Router
    from modelmill.dataset import Dataset
    from modelmill.mill import Options
    from modelmill.model import Body
    from modelmill.registry.registry import Registry
    from modelmill.runtime.chain import Chain
    from modelmill.serve.access.keys import Keys
    from modelmill.serve.traffic.rollout import Rollout
    from modelmill.store.home import Home
    from modelmill.version import Version

Source = str | Path | Spec | Mapping[str, Any]

GRAPH = "model.onnx"
"""The file of a version that is run."""


def home(path: str | Path | None = None) -> Home:
    """The home folder with its database and blobs: a path, or what the environment says."""
    from modelmill.store.home import Home

    folder = path or os.environ.get("MODELMILL_HOME") or Path.home() / ".modelmill"
    return Home(Path(folder), os.environ.get("MODELMILL_DATABASE_URL", ""), os.environ.get("MODELMILL_STORE_URL", ""))


def registry(path: str | Path | None = None) -> Registry:
    """The registry of a home folder."""
    from modelmill.registry.registry import Registry

    place = home(path)
    return Registry(place.database, place.blobs)


def keys(path: str | Path | None = None) -> Keys:
    """The keys and tenants of a home folder, and its audit log."""
    from modelmill.serve.access.keys import Keys

    return Keys(home(path).database)


def build(
    source: Source | tuple[Any, Any],
    goal: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    budget: str = "",
    model: Any = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Search, train, compress, measure and publish; the report of the published version.

    source: a built-in set, a path, a spec, or a pair (x, y) of arrays.
    goal: the keys of a spec's `[goal]`: `maximize`, `minimize`, `reach`, `limit`.
    budget, seed: 60s and 0 where neither they nor a spec file say otherwise.
    model: a torch module or a scikit-learn estimator to train and mill in place of a search among bodies.
    Trials can be watched with `modelmill.mill.build`, which yields them as they come.

    settings: further keys: `target`, `task`, `workers`, `home`, `promote`, `test`, `group`, `time`, `sample_weight`.
    """
    from modelmill.mill import Options

    chosen = _known(settings, SETTINGS, "build")
    data = rows(source, chosen.get("sample_weight")) if isinstance(source, tuple) else None
    spec = _spec(source, {**(goal or {}), **({"budget": budget} if budget else {})}, name, seed, chosen)
    live = body(model) if model is not None else None
    return _last(spec, home(chosen.get("home")), Options(promote=bool(chosen.get("promote")), data=data, body=live))


def compress_model(
    name: str,
    data: Any = None,
    *,
    limit: Mapping[str, float] | None = None,
    allow_loss: float | None = None,
    budget: str = "60s",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Search among recipes of compression, and publish a smaller or faster child of a version; its report.

    Where nothing is smaller or faster within the allowed loss, the version stays, and the report is of that.

    name: NAME, NAME@3 or NAME@alias.
    data: a source, a pair (x, y) of arrays, or x alone; by default the rows that the version was made from. Without
    the truth, quality is agreement with the version.
    allow_loss: how much quality it may cost; 0.01 by default.

    settings: further keys: `recipe` (a TOML file), `name`, `workers`, `home`, `promote`, `fresh`.
    """
    from modelmill.ask import compression
    from modelmill.mill import Options

    chosen = _known(settings, COMPRESSING, "compress")
    place = home(chosen.get("home"))
    live = rows_for(name, data, place) if data is not None and not isinstance(data, str | Path) else None
    spec = compression(
        name,
        "" if live is not None or data is None else str(data),
        recipe=chosen.get("recipe", ""),
        called=str(chosen.get("name", "")),
        goal={"limit": dict(limit or {}), "allow_loss": allow_loss, "budget": budget},
        workers=int(chosen.get("workers") or 0),
        seed=seed,
    )
    return _last(spec, place, Options(bool(chosen.get("promote")), bool(chosen.get("fresh")), data=live))


COMPRESSING = ("recipe", "name", "workers", "home", "promote", "fresh")


def _last(spec: Spec, place: Home, options: Options) -> Report:
    """The report that a run ends with."""
    from modelmill.mill import build as run

    report: Report | None = None
    for step in run(spec, place, options):
        if isinstance(step, Report):
            report = step
    assert report is not None, "a run ends with a report or an error"
    return report


def rows_for(name: str, data: Any, place: Home) -> Dataset:
    """Rows for a version from arrays: x or columns by name, alone or in a pair with y.

    Raises ContentError where they do not fit its inputs.
    """
    from dataclasses import replace

    from modelmill.data.read import arrays_for
    from modelmill.registry.registry import Registry

    signature = Registry(place.database, place.blobs).find(name).signature
    x, y = data if isinstance(data, tuple) else (data, None)
    names = [field.name for field in signature.inputs]
    if isinstance(x, Mapping):
        columns = x
    elif len(names) == 1:
        columns = {"x": x}
    else:
        table = np.asarray(x)
        if table.ndim != 2 or table.shape[1] != len(names):
            wanted = f"expected (rows, {len(names)}): {', '.join(names[:12])}"
            raise ContentError("arrays", f"x has the shape {list(table.shape)}; {wanted}", "Or give a column a name.")
        columns = dict(zip(names, table.T, strict=True))
    arrays = {key: np.asarray(values) for key, values in columns.items()} | ({} if y is None else {"y": np.asarray(y)})
    return replace(arrays_for(signature, arrays, Path("arrays"), y is not None), origin="arrays in memory")


def import_model(
    path: str | Path,
    name: str = "",
    *,
    settings: Mapping[str, Any] | None = None,
    promote: bool = False,
    place: Home | None = None,
) -> Report:
    """Take in a model from an ONNX file, with no training code, and publish it; the report of the version.

    settings: of the importer (`modelmill methods importer`): `task`, `classes`, `output`, `target`, `example`,
    `seconds`, `memory_mb`. Raises ModelError for a file that is refused, with what is wrong.
    """
    from modelmill.method import decode
    from modelmill.recipe.outside import name_for, publish, take
    from modelmill.registry.reference import check_name
    from modelmill.registry.registry import Registry

    given = dict(settings or {})
    if given.get("task"):
        decode("task", {"method": given["task"]}, "import: task")
    importer = decode("importer", {"method": "onnx", **given}, "import")
    name = name or name_for(Path(path))
    check_name(name)
    place = place or home()
    return publish(take(path, importer), name, Registry(place.database, place.blobs), importer, promote)


SETTINGS = ("target", "task", "workers", "home", "promote", "test", "group", "time", "sample_weight")


def _known(settings: Mapping[str, Any] | None, names: Sequence[str], verb: str) -> dict[str, Any]:
    from modelmill.errors import UnknownName

    for key in settings or {}:
        if key not in names:
            raise UnknownName.among(verb, "setting", key, names)
    return dict(settings or {})


def _spec(source: Any, goal: Mapping[str, Any], name: str, seed: int | None, chosen: Mapping[str, Any]) -> Spec:
    from modelmill.ask import cores, request
    from modelmill.spec import read

    if isinstance(source, Spec):
        return source
    task = str(chosen.get("task", ""))
    if isinstance(source, tuple):
        stated: dict[str, Any] = {"task": {"method": task}} if task else {}
        stated |= {"workers": int(chosen.get("workers") or cores())}
        return read({"name": name or "model", "data": {}, "goal": goal, "seed": seed or 0, **stated})
    if isinstance(source, Mapping):
        return read(source)
    data = {key: str(chosen[key]) for key in ("target", "test", "group", "time") if chosen.get(key)}
    workers = chosen.get("workers")
    return request(
        str(source),
        name=name,
        task=task,
        data=data,
        goal=goal,
        workers=None if workers is None else int(workers),
        seed=seed,
    )


def rows(pair: tuple[Any, Any], weights: Any = None) -> Dataset:
    """A data set from arrays: x of shape (rows, features) or (rows, height, width[, channels]), one y a row.

    Raises ContentError where the shapes do not fit or values are no numbers.
    """
    from dataclasses import replace

    from modelmill.data.arrays import dataset

    x, y = (np.asarray(part) for part in pair)
    data = replace(dataset(x, y, "build", "y"), origin="arrays in memory")
    if weights is None:
        return data
    weights = np.asarray(weights, np.float32)
    if weights.shape != (len(x),) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.max() > 0:
        hint = "Give one finite weight a row, none below 0."
        raise ContentError("build: sample_weight", f"weights of the shape {weights.shape} for {len(x)} rows", hint)
    return replace(data, weights=weights)


def body(model: Any) -> Body:
    """A live object as the body of a model: a torch module, or an estimator with `fit` and `predict`."""
    from modelmill.model import Body

    if hasattr(model, "state_dict") and callable(model):
        return Body("network", model)
    if hasattr(model, "fit") and hasattr(model, "predict"):
        return Body("estimator", model)
    raise UsageError("build", f"a {type(model).__name__} is neither a torch module nor an estimator", "")


def rollout(name: str, settings: Mapping[str, Any] | None = None, place: Home | None = None) -> Rollout:
    """Let a version take over from the live one, step by step; services on the home drive it, and judge it.

    Raises RegistryError where it cannot take over.

    name: NAME@3 or NAME@alias.
    settings: `steps`, `shadow`, `pairs`, `requests`, `seconds`, `by`, `mirror`, `notes`, and what is tolerated:
    `errors`, `slower`, `tail`, `differ`, `near`, `level`.
    """
    from modelmill.registry.registry import Registry
    from modelmill.serve.traffic.start import plan_of, start

    place = place or home()
    return start(Registry(place.database, place.blobs), name, plan_of(settings or {}))


def rollouts(name: str, place: Home | None = None) -> list[dict[str, Any]]:
    """All rollouts of a model, newest first: where each stands, and the evidence so far."""
    from modelmill.serve.traffic import changes

    return changes.rollouts((place or home()).database, name)


def abort_rollout(name: str, place: Home | None = None) -> Rollout:
    """End the rollout of a model that is on its way; the live version answers. Raises RegistryError where none is."""
    from modelmill.serve.traffic.book import Book

    return Book((place or home()).database).abort(name)


def route(name: str, settings: Mapping[str, Any] | None, place: Home | None = None) -> Router | None:
    """Let a router say which version answers for NAME alone; None lets the live version answer.

    settings: `method` (`modelmill methods router` lists them), and the router's own.
    """
    from modelmill.registry.registry import Registry
    from modelmill.serve.traffic import start
    from modelmill.serve.traffic.book import Book

    place = place or home()
    if settings is None:
        Book(place.database).clear_route(name)
        return None
    return start.route(Registry(place.database, place.blobs), name, start.table_of(dict(settings))).router


def changes(name: str, place: Home | None = None) -> list[dict[str, Any]]:
    """What changed about a model, newest first: versions, promotions, rollbacks, the steps of rollouts, and routes."""
    from modelmill.registry.registry import Registry
    from modelmill.serve.traffic.changes import changes as told

    place = place or home()
    found: list[dict[str, Any]] = told(Registry(place.database, place.blobs), name)["changes"]
    return found


def publish_pipeline(
    name: str,
    steps: str | Path | Mapping[str, Any],
    *,
    promote: bool = False,
    place: Home | None = None,
) -> Version:
    """Publish models that answer together as one version; their versions stay those that the names stand for now.

    steps: a TOML file, or the same as a mapping: `steps`, each with `model`, `inputs` and `outputs`; and `outputs`, the
    tensors that are the answer. Raises SpecError where they do not fit each other, UnknownModel for a model that is not
    there.
    """
    from modelmill.recipe.joined import publish
    from modelmill.registry.registry import Registry

    place = place or home()
    return publish(name, steps, Registry(place.database, place.blobs), promote)


def load(name: str, place: Home | None = None) -> Loaded:
    """The version that a reference names: `NAME`, `NAME@3` or `NAME@alias`; of a pipeline with the models of its steps.

    Raises UnknownModel, with the closest names, or the step that is gone; Tampered where the bytes are not those that
    were published.
    """
    from modelmill.registry.registry import Registry

    place = place or home()
    shelf = Registry(place.database, place.blobs)
    version = shelf.find(name)
    if pipeline.FILE in version.files:
        return Loaded(version, _chain(version, shelf), shelf)
    return Loaded(version, shelf.file(version, GRAPH), shelf)


def _chain(version: Version, shelf: Registry) -> Chain:
    """A pipeline with the graphs of its steps. Raises UnknownModel for a step that is gone."""
    from modelmill.runtime.chain import Chain

    steps = pipeline.read(shelf.file(version, pipeline.FILE)).steps
    graphs: dict[str, bytes] = {}
    for step in steps:
        try:
            graphs[step.model] = shelf.file(step.model, GRAPH)
        except UnknownModel as error:
            message = f"is gone, and the pipeline {version.reference} needs it: {error.message}"
            raise UnknownModel(step.model, message, error.hint) from None
    return Chain(steps, graphs, version.signature)
