"""Trained networks of a run, kept for candidates that differ from theirs in what comes after training alone."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from modelmill.errors import ModelError
from modelmill.model import Model
from modelmill.store.cache import Cache

LATE = "compress"
"""The stage whose settings training knows nothing of."""


@dataclass(frozen=True)
class Shelf:
    """A folder of weights, shared by the workers of a run. What is not there is trained again, to the same bits.

    A file that cannot be read, or does not fit, counts as none.
    """

    folder: Path

    def get(self, key: str, untrained: Model) -> Model | None:
        """The model of that key, given the same model as it was before training; None where there is none."""
        from safetensors import SafetensorError, safe_open

        from modelmill.network.blocks import fill
        from modelmill.network.mixture import like

        path = Cache(self.folder).find(key)
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                weights = {name: file.get_tensor(name) for name in names}
                history = msgspec.json.decode(file.metadata()["history"], type=tuple[str, ...])
            module = like(weights, lambda: copy.deepcopy(untrained.body.value), bool(untrained.signature.classes))
            fill(module, weights)
        except (OSError, SafetensorError, ModelError, KeyError, msgspec.DecodeError):
            return None
        body = replace(untrained.body, value=module.eval())
        return replace(untrained, parts=(replace(untrained.part, body=body),), history=history)

    def put(self, key: str, model: Model) -> None:
        """Keep a trained network; where the disk is full it is not kept."""
        from safetensors.torch import save

        from modelmill.network.blocks import named_weights

        weights = {name: value.detach().contiguous() for name, value in named_weights(model.body.value).items()}
        written = save(weights, {"history": msgspec.json.encode(model.history).decode()})
        Cache(self.folder).put(key, written)


def key_of(payload: Mapping[str, Any]) -> str:
    """What a training depends on within one run: its seed, and the settings of all that comes before its end."""
    early = {name: value for name, value in payload["settings"].items() if name.partition(".")[0] != LATE}
    told = msgspec.json.encode(
        [early, payload["seed"], payload.get("epochs"), bool(payload.get("final"))], order="sorted"
    )
    return hashlib.sha256(told).hexdigest()
