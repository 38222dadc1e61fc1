"""What steps gave in earlier runs, so that a recipe which is run again takes up what is finished.

A step is found by all that it depends on: the model before it, its settings, the rows, the seed, and the versions of
the tools. A network is put together from the one before the step and the weights that were kept; what does not answer
to the digest of its graph is not taken, and the step runs again.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.graph.digest import digest
from modelmill.graph.export import export
from modelmill.model import Body, Model
from modelmill.store.cache import Cache

GRAPH = "graph"
"""The name under which the bytes of a graph are kept beside the weights."""

HURRIED = 0.9
"""A step that took this share of its time may have been cut short, and is not kept."""


@dataclass(frozen=True)
class Finished:
    """Finished steps in a folder; what cannot be read, or does not fit, counts as none."""

    cache: Cache
    tools: str = ""
    """What the steps were made by: versions."""

    def key(self, before: Model, step: Mapping[str, Any], data: Splits, seed: int) -> str:
        """All that the outcome of a step depends on, as one digest; "" where it cannot be told."""
        given = fingerprint(before)
        if not given:
            return ""
        told = [given, step, data.train.digest, data.valid.digest, seed, self.tools]
        return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()

    def get(self, key: str, before: Model, task: Task) -> Model | None:
        """The model that came out of that step; None where it is not kept."""
        from safetensors import SafetensorError, safe_open

        path = self.cache.find(key) if key else None
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata()
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            history = msgspec.json.decode(told["history"], type=tuple[str, ...])
            body = _body(before, weights, msgspec.json.decode(told["arch"]))
            part = replace(before.part, body=body)
            found = replace(before, parts=(part,), history=history) if body.kind == "network" else None
            found = found or replace(before.with_body(body.value, "graph", ""), history=history)
            return found if digest(export(found, task)) == told["digest"] else None
        except (OSError, SafetensorError, RuntimeError, KeyError, AttributeError, ValueError, msgspec.DecodeError):
            return None

    def put(self, key: str, after: Model, graph: bytes) -> None:
        """Keep what came out of a step; an estimator is not kept, since it could only be pickled."""
        import numpy as np
        import torch
        from safetensors.torch import save

        if not key or after.body.kind == "estimator":
            return
        if after.body.kind == "graph":
            weights = {GRAPH: torch.from_numpy(np.frombuffer(graph, np.uint8).copy())}
        else:
            weights = {name: value.detach().clone() for name, value in after.body.value.state_dict().items()}
        told = {
            "history": msgspec.json.encode(after.history).decode(),
            "arch": msgspec.json.encode(after.body.arch).decode(),
            "digest": digest(graph),
        }
        self.cache.put(key, save(weights, told))


def fingerprint(model: Model) -> str:
    """A digest of a model: of its graph, or of a network's layers, weights and preparation; "" where it has none."""
    from modelmill.runtime.features import digest as of_preparation

    body = model.body
    if body.kind == "graph":
        return digest(body.value)
    if body.kind == "estimator":
        return ""
    total = hashlib.sha256(f"{body.value!r}{of_preparation(model.part.prepare)}".encode())
    for name, value in body.value.state_dict().items():
        total.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _body(before: Model, weights: dict[str, Any], arch: Mapping[str, Any]) -> Body:
    if set(weights) == {GRAPH}:
        return Body("graph", weights[GRAPH].numpy().tobytes(), arch, before.body.features)
    from modelmill.network.slicing import shaped

    network = shaped(copy.deepcopy(before.body.value), weights)
    return Body("network", network.eval(), arch, before.body.features)
