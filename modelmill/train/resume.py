"""A training to and from its checkpoint: all that the next epoch depends on beside data, recipe and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from modelmill.train import checkpoint
from modelmill.train.average import tensors
from modelmill.train.schedule import Plateau
from modelmill.train.training import Training
from modelmill.trial import Progress


def resumed(training: Training, path: Path | None) -> Iterator[Progress]:
    """The epochs that a checkpoint leaves to be done, each kept in it; all of them where there is no path."""
    if path is None:
        yield from training.run()
        return
    key = _key(training)
    _resume(training, path, key)
    for progress in training.run():
        _save(training, path, key)
        yield progress


def _key(training: Training) -> str:
    """What a checkpoint must share with the training that goes on from it."""
    body = training.model.body
    told = (training.recipe, training.tuning, training.seed, *training.digests, body.arch, _digest(body.value))
    return msgspec.json.encode(told).decode()


def _digest(module: torch.nn.Module) -> str:
    """SHA-256 of a network's weights and of their names."""
    total = hashlib.sha256()
    for name, value in tensors(module).items():
        total.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        total.update(value.contiguous().numpy().tobytes())
    return total.hexdigest()


def _save(training: Training, path: Path, key: str) -> None:
    """Write the training as it stands between two epochs."""
    optimizer = training.optimizer.state_dict()["state"]
    parts: dict[str, Mapping[str, Any]] = {
        "module": tensors(training.module),
        "average": tensors(training.averaged.module) if training.recipe.average else {},
        "mean": training.mean.weights,
        "kept": training.kept,
        **{f"optimizer.{index}": state for index, state in optimizer.items()},
    }
    flat = {f"{part}/{name}": value for part, found in parts.items() for name, value in found.items()}
    state = {
        "key": key,
        "epoch": training.epoch,
        "rows": training.rows,
        "done": training.plan.done,
        "total": training.plan.total,
        "elapsed": training.plan.elapsed,
        "best": training.best,
        "values": training.values,
        "waited": training.waited,
        "averaged": training.mean.count,
        "plateau": [training.plateau.drops, training.plateau.waited, training.plateau.best],
    }
    checkpoint.save(path, {name: value for name, value in flat.items() if value is not None}, state)


def _resume(training: Training, path: Path, key: str) -> None:
    """Bring a training to where its checkpoint was written; nothing happens where there is none."""
    found = checkpoint.load(path, key)
    if found is None:
        return
    flat, state = found
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in flat.items():
        part, _, inner = name.partition("/")
        parts.setdefault(part, {})[inner] = value
    training.module.load_state_dict(parts["module"])
    if training.recipe.average:
        training.averaged.module.load_state_dict(parts["average"])
    training.kept = parts.get("kept", {})
    training.mean.weights, training.mean.count = parts.get("mean", {}), state["averaged"]
    learned = {int(name.partition(".")[2]): numbers for name, numbers in parts.items() if "optimizer." in name}
    _restore(training, learned)
    training.epoch, training.waited, training.values = state["epoch"], state["waited"], state["values"]
    training.best = None if state["best"] is None else (state["best"][0], state["best"][1])
    training.rows, training.plateau = state["rows"], Plateau(training.plateau.patience, *state["plateau"])
    training.plan.done, training.plan.total, training.plan.spent = state["done"], state["total"], state["elapsed"]


def _restore(training: Training, learned: Mapping[int, Mapping[str, Any]]) -> None:
    """Give the optimizer its numbers, laid out as the weights are: its fused step walks both side by side."""
    training.optimizer.load_state_dict({**training.optimizer.state_dict(), "state": learned})
    for numbers in training.optimizer.state.values():
        for name, value in numbers.items():
            if isinstance(value, Tensor) and value.ndim == 4:
                numbers[name] = value.contiguous(memory_format=training.layout)
