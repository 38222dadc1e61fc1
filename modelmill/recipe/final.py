"""The last step of a worker: the winner made anew with more rows, and what a version keeps beside its graph."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from modelmill.dataset import concat
from modelmill.model import Model
from modelmill.recipe.bases import PREPARATION, SEARCHED
from modelmill.recipe.folds import Plan
from modelmill.recipe.grow import LEAST_S, mill, picked_spec, trained, untrained
from modelmill.recipe.job import Job
from modelmill.recipe.shelf import key_of
from modelmill.trial import Outcome, Progress

NOTHING = np.zeros(0, np.int64)


def final(job: Job, payload: Mapping[str, Any]) -> Iterator[Any]:
    """The winner made anew on train and validation rows, and the same model uncompressed, as a last value."""
    from modelmill.graph.export import export

    rows = job.splits
    data = replace(rows, train=concat(rows.train, rows.valid), valid=rows.valid.take(NOTHING))
    seconds = float(payload.get("seconds") or 0)
    started = time.monotonic()
    said: list[str] = []
    model = yield from shown(trained(job, payload, data, seconds), said)
    left = max(LEAST_S, seconds - (time.monotonic() - started)) if seconds else 0.0
    milled = model
    outcomes: tuple[Outcome, ...] = ()
    for progress in mill(job, payload, model, data, left):
        yield {"step": progress.step, "values": dict(progress.values)}
        milled, outcomes = progress.result or milled, progress.steps or outcomes
    yield {
        "artifact": milled.body.value,
        "baseline": export(model, job.task),
        "notes": told(milled.history, said),
        "body": {**further(model), **searched(job, payload)},
        "steps": outcomes,
    }


def searched(job: Job, payload: Mapping[str, Any]) -> dict[str, bytes]:
    """The network as it was searched, by file name, where it is still kept: it has not seen the validation rows.

    Whoever compresses the version later can tell by it what a step costs on rows that are new.
    """
    picked = picked_spec(job, payload["settings"])
    if job.base:
        return {f"{SEARCHED}{name}": data for name, data in further(job.base.searched).items()}
    if job.shelf is None or not picked.arch:
        return {}
    rows = Plan.of(job.spec.search).cut(job.splits, job.spec.seed)[0].train
    before = untrained(job, picked, rows, payload["seed"])
    early = {name: payload[name] for name in ("settings", "seed")}
    found = job.shelf.get(key_of(early), before) if before.body.kind == "network" else None
    return {f"{SEARCHED}{name}": data for name, data in further(found).items()} if found else {}


def told(history: Sequence[str], said: Sequence[str]) -> list[str]:
    """What was done to a model, and what else was said of it on the way: nothing twice."""
    return list(dict.fromkeys([*history, *(note for note in said if not any(note in line for line in history))]))


def shown(steps: Generator[Progress, None, Model], said: list[str]) -> Generator[dict[str, Any], None, Model]:
    """Progress as the messages that a worker sends; returns what the steps return. What they note goes to `said`."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            model: Model = end.value
            return model
        if progress.note:
            said.append(progress.note)
        yield {"step": progress.step, "values": dict(progress.values)}


def further(model: Model) -> dict[str, bytes]:
    """What further milling needs beside the graph: a network's weights and the table of its arch, by file name."""
    if model.body.kind != "network":
        return {}
    from safetensors.torch import save

    from modelmill.graph.preparation import write
    from modelmill.network.blocks import named_weights

    weights = {name: tensor.detach().contiguous() for name, tensor in named_weights(model.body.value).items()}
    kept = {"arch": model.body.arch, "features": model.body.features}
    files = {"body.safetensors": save(weights), "body.json": msgspec.json.encode(kept)}
    return {**files, PREPARATION: write(model.part.prepare, model.signature.inputs)}
