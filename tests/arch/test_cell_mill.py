"""Cells from data to graph: sequences, images and tables, pruned and quantized like any network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelmill.evaluate.judge import predict
from modelmill.model import Model
from modelmill.recipe.grow import grow
from modelmill.recipe.job import Job
from modelmill.recipe.look import look
from modelmill.spec import read

SMALL = {"method": "cell", "width": 8, "stages": 1, "join": "concat"}
EDGES = [[1], [0, 1], [1, 0, 1]]


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Two channels of very different size, in which tones are low or high."""
    chance = np.random.default_rng(0)
    label = chance.integers(0, 2, 240)
    steps = np.arange(20)
    waves = [np.sin((0.4 + 0.8 * label)[:, None] * steps + chance.uniform(0, 6, 240)[:, None]) for _ in range(2)]
    x = np.stack([waves[0], 1000 * waves[1] + 5000], axis=2).astype(np.float32)
    path = tmp_path / "tones.npz"
    np.savez(path, x=x, y=np.array(["low", "high"])[label])
    return path


def job(data: dict[str, Any], arch: dict[str, Any], *compress: dict[str, Any]) -> Job:
    train = {"method": "adam", "epochs": 6, "batch": 32}
    return look(read({"data": data, "arch": arch, "train": train, "compress": list(compress)})).job


def grown(made: Job) -> Model:
    *_, last = grow(made, {"settings": {}, "seed": 0}, made.splits, 0.0)
    assert last.result is not None
    return last.result


def accuracy(made: Job, model: Model) -> float:
    valid = made.splits.valid
    assert valid.target is not None
    return float((predict(model.body.value, valid)["label"] == valid.target).mean())


def test_a_cell_learns_tones_from_sequences(tones: Path) -> None:
    arch = {**SMALL, "kind": "sequence", "operations": ["conv5", "dilated3"], "edges": EDGES}
    made = job({"method": "npz", "path": str(tones)}, arch)
    assert made.spec.prepare == ({"method": "sequence"},)
    assert accuracy(made, grown(made)) > 0.95


def test_without_a_word_arrays_stay_images(tones: Path) -> None:
    made = job({"method": "npz", "path": str(tones)}, {"method": "cell", "width": 4})
    assert made.spec.prepare == ({"method": "image"},)


@pytest.mark.parametrize(
    ("kind", "operations"),
    [
        ("sequence", ["conv3", "separable3"]),
        ("image", ["conv3", "separable3"]),
        ("table", ["relu", "tanh"]),
    ],
)
def test_a_cell_is_pruned_and_quantized(kind: str, operations: list[str], tones: Path) -> None:
    arch = {**SMALL, "kind": kind, "operations": operations, "edges": EDGES}
    pruning = {"method": "prune.magnitude", "ratio": 0.5, "epochs": 3}
    quantizing = {"method": "quantize.dynamic" if kind == "table" else "quantize.static"}
    source = {"method": "npz", "path": str(tones)}
    made = job(source, arch)
    whole, quantized, half = (grown(job(source, arch, *steps)) for steps in ((), (quantizing,), (pruning,)))
    assert any(line.startswith("quantize.") and "8 bits" in line for line in quantized.history)
    assert accuracy(made, quantized) > accuracy(made, whole) - 0.1
    assert any("8 to 4" in line for line in half.history)
    assert len(half.body.value) < len(whole.body.value)


def test_weights_of_sequences_become_zero_too(tones: Path) -> None:
    arch = {**SMALL, "kind": "sequence", "operations": ["conv3", "gru"], "edges": EDGES}
    made = job({"method": "npz", "path": str(tones)}, arch, {"method": "prune.weights", "ratio": 0.5, "epochs": 2})
    assert any("prune.weights" in line for line in grown(made).history)


def test_channels_are_not_followed_through_a_recurrent_unit(tones: Path) -> None:
    arch = {**SMALL, "kind": "sequence", "operations": ["conv3", "gru"], "edges": EDGES}
    made = job({"method": "npz", "path": str(tones)}, arch, {"method": "prune.magnitude", "epochs": 1})
    *_, last = grow(made, {"settings": {}, "seed": 0}, made.splits, 0.0)
    (outcome,) = last.steps
    assert not outcome.kept
    assert "channels cannot be followed through Recurrent" in outcome.why
