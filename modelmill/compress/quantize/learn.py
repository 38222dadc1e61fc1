"""Training with grids in the network, and the graph that computes on them: what learned steps and ceilings share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from modelmill.compress.parity import answers
from modelmill.compress.quantize.graphs import load
from modelmill.compress.quantize.insert import Grid, beyond, folded, inserted, layers, stepped
from modelmill.compress.quantize.pairs import complete
from modelmill.compress.quantize.start import begin, weigh
from modelmill.compress.quantize.tidy import tidy
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.graph.export import export
from modelmill.model import Model
from modelmill.network.steps import Stepped
from modelmill.runtime.features import features
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.rows import head, tensor
from modelmill.train.training import Objective, Training
from modelmill.trial import Progress

ALLOWED = 0.05
"""How far the graph may be off the network on average: in probabilities, or in standard deviations of the values."""
CHECKED = 64
"""Rows that both answer."""


@dataclass(frozen=True)
class Grids:
    """What is put into a network: how activations and how weights are rounded."""

    name: str
    grid: Callable[[], Grid]
    layer: Callable[[nn.Module], Stepped]
    smallest: int
    rows: int
    words: str


def learned(
    model: Model,
    data: Splits,
    task: Task,
    seed: int,
    *,
    grids: Grids,
    settings: Retrains,
    objective: Callable[[Training], Objective] | None = None,
) -> Iterator[Progress]:
    """Round a copy of the network, train it so, and yield the graph that computes in integers as it learned to."""
    network = folded(model.body.value)
    worth = layers(network, grids.smallest)
    if not worth:
        note = f"nothing to quantize: no layer that can be followed has {grids.smallest} weights or more"
        yield Progress(1, 1, note=note, result=model.with_body(export(model, task), "graph", note))
        return
    total = sum(layer.weight.numel() for layer in worth)
    said = f"{len(worth)} layers with {total} weights: {grids.words}; batch norms are folded"
    if left := beyond(network, worth, grids.smallest):
        said += f"; floats stay in what cannot be followed: {', '.join(left)}"
    yield Progress(0, max(settings.epochs, 1), note=said)
    network = inserted(network, grids.grid, grids.layer, grids.smallest)
    index = np.sort(np.random.default_rng(seed).permutation(data.train.rows)[: grids.rows])
    begin(network, tensor(features(model.part, model.signature, data.train.take(index))))
    training = settings.training(model.with_body(network, "network", f"{grids.name}: {grids.words}"), data, task, seed)
    weigh(training.module)  # the last layer may have been brought to the unit of the targets
    if objective is not None:
        training.objective = objective(training)
    yield from training.run()
    last = training.finish("retrain.adam")
    assert last.result is not None
    _rescale(last.result.body.value, training.unit.deviation)
    yield finished(last, data, task, len(worth))


def _rescale(network: nn.Module, deviation: float) -> None:
    """Bring the steps of the last layer to the unit that its weights have been brought to."""
    last = head(network)
    for layer in stepped(network):
        if layer.layer is last:
            layer.start(layer.steps.detach() * deviation)


def finished(last: Progress, data: Splits, task: Task, count: int) -> Progress:
    """The last Progress with the network written as a graph, which was checked against it on real rows."""
    assert last.result is not None
    model = last.result
    proto = load(export(model, task))
    complete(proto)
    graph = tidy(proto)
    off = difference(model, graph, data)
    if not off <= ALLOWED:
        raise ModelError(model.history[-1].partition(":")[0], f"the graph is off by {off:.2g}", "Use quantize.static.")
    note = f"{count} layers compute in 8 bits; the file has {len(graph)} bytes"
    values = {**last.values, "size_bytes": float(len(graph)), "difference": off}
    result = model.with_body(graph, "graph", note)
    return replace(last, values=values, note="; ".join(filter(None, (last.note, note))), result=result)


def difference(model: Model, graph: bytes, data: Splits) -> float:
    """How far the graph is off the network on average, on rows of the training set."""
    rows = data.train.take(np.arange(min(CHECKED, data.train.rows)))
    wanted = answers(model, rows, CHECKED)
    found = Session(graph).run(from_dataset(rows))
    if "value" in wanted:
        scale = float(np.std(np.asarray(rows.target))) or 1.0
        return float(np.abs(found["value"].astype(np.float64) - wanted["value"]).mean() / scale)
    return float(np.abs(found["probabilities"] - wanted["probabilities"]).mean())
