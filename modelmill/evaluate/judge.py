"""Judges a served file: its answers on a data set, their quality with intervals, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset
from modelmill.errors import ModelError, UnknownName
from modelmill.evaluate.costs import cpu, energy, latency, macs, memory, size, stored, throughput
from modelmill.evaluate.costs.timing import session
from modelmill.report import SplitName, Value
from modelmill.runtime.calls import answers
from modelmill.runtime.chain import Opened
from modelmill.runtime.rows import from_dataset
from modelmill.signature import Signature

Array = np.ndarray[Any, Any]

REPORTED = (
    "latency_ms",
    "latency_p99_ms",
    "throughput_rps",
    "size_bytes",
    "stored_bytes",
    "memory_mb",
    "energy_mj",
    "macs",
    "cpu_seconds",
)
"""The costs of a report, in its order."""

FULL: tuple[Cost, ...] = (
    size.Size(),
    stored.Stored(),
    macs.Macs(),
    latency.Latency(),
    throughput.Throughput(),
    cpu.Cpu(),
    energy.Energy(),
    memory.Memory(),
)
"""How the winner and its baseline are measured: a couple of seconds each."""

QUICK: tuple[Cost, ...] = (
    size.Size(),
    stored.Stored(),
    macs.Macs(),
    latency.Latency(seconds=0.06, blocks=4, warmups=5),
    throughput.Throughput(seconds=0.04, blocks=2),
    cpu.Cpu(seconds=0.02, blocks=2),
    energy.Energy(seconds=0.02),
    memory.Memory(),
)
"""How every trial of a search is measured: a quarter of a second, unless memory is asked for."""

BATCH = 256
"""Rows of one call where a whole data set is predicted."""


def predict(onnx: bytes, dataset: Dataset) -> dict[str, Array]:
    """The file's answers for all rows of a data set: output name to array."""
    return answered(session(onnx), dataset)


def answered(opened: Opened, dataset: Dataset) -> dict[str, Array]:
    """The answers for all rows of a data set, of what is open already."""
    if dataset.rows == 0:
        return opened.run(from_dataset(dataset))
    return answers(opened, dataset, BATCH)


def evaluate(
    onnx: bytes, dataset: Dataset, signature: Signature, metrics: Sequence[str], split: SplitName, seed: int
) -> dict[str, Value]:
    """Every metric of the file on a data set, with its 95 % bootstrap interval."""
    return rate(predict(onnx, dataset), dataset, signature, metrics, split, seed)


def rate(
    outputs: Mapping[str, Array],
    dataset: Dataset,
    signature: Signature,
    metrics: Sequence[str],
    split: SplitName,
    seed: int,
) -> dict[str, Value]:
    """Every metric of answers that are already there, with its 95 % bootstrap interval."""
    from modelmill.metrics.score import interval, score

    if dataset.target is None or dataset.rows == 0:
        raise ModelError("evaluate", f"the {split} rows have no targets to compare with", "Name the target column.")
    figures = score(metrics, outputs, dataset.target, signature.classes)
    return {
        name: Value(figures[name], split, interval(name, outputs, dataset.target, signature.classes, seed))
        for name in metrics
    }


def measure(
    models: Sequence[bytes], data: Dataset, wanted: Sequence[str] = REPORTED, quick: bool = False
) -> Measurements:
    """What ONNX files cost, measured in one interleaved run; the last is the baseline of the others.

    Gives the wanted costs and what comes with them of the same calls: `latency_p95_ms`, `latency_b32_ms`, and for
    several models `latency_ratio` with its interval. `quick` is for trials, in well under a second a model.
    """
    if data.rows == 0:
        raise ModelError("measure", "there are no rows to measure on", "Give at least one.")
    measured: Measurements = [{} for _ in models]
    for cost in costs(wanted, quick):
        for figures, found in zip(measured, cost(models, data), strict=True):
            figures.update(found)
    return measured


def costs(wanted: Sequence[str], quick: bool = False) -> list[Cost]:
    """The cost methods that give the wanted costs, each once."""
    known = [name for cost in FULL for name in cost.gives]
    for name in wanted:
        if name not in known:
            raise UnknownName.among("measure", "cost", name, known)
    return [cost for cost in (QUICK if quick else FULL) if set(cost.gives) & set(wanted)]


def energy_is_modelled() -> bool:
    """Whether this machine has no energy counter, so that `energy_mj` is a model's figure."""
    return energy.counter() is None
