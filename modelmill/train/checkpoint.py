"""A training on disk, exact to the bit: one safetensors file with weights, optimizer, best so far, and counters."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from modelmill.errors import SourceError, StorageError, WorkError

KEY = "modelmill"


def save(path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint in one move: whoever reads sees the old one or the new one, even after a power cut."""
    from safetensors.torch import save as serialize

    owned = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    content = serialize(owned, {KEY: json.dumps(state, sort_keys=True)})
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise StorageError(
            str(path), f"the checkpoint cannot be written: {error.strerror}", "Free some space."
        ) from error


def load(path: Path, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The tensors and counters of the checkpoint at `path`; None where there is none.

    Raises WorkError where it belongs to a training with other settings, weights, data or seed: `key` differs.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            state = json.loads((file.metadata() or {})[KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        raise SourceError(str(path), f"is no checkpoint: {error}", "Delete it to start anew.") from error
    if state["key"] != key:
        raise WorkError(
            str(path),
            "the checkpoint belongs to a training with other settings, weights, data or seed",
            "Delete it to start anew.",
        )
    return tensors, dict(state)
