"""Layers whose weights are looked up in a small table, and the training of the tables."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from modelmill.compress.quantize.insert import WEIGHTED, folded
from modelmill.compress.retrain import Guided
from modelmill.contracts import Array, Task
from modelmill.dataset import Splits
from modelmill.model import Model
from modelmill.train.rows import head
from modelmill.trial import Progress


class Looked(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A linear or convolutional layer whose weights stand in a table; a value of the table at zero may be held there.

    The gradient of a number of the table is the sum of those of its weights.

    table: (entries,) numbers or (entries, length) runs of them. codes: the entry of every weight, or run of weights, in
    their order. signs: what each weight is multiplied by. held: whether zeros of the table stay zeros.
    """

    def __init__(
        self, layer: nn.Module, table: Array, codes: Array, signs: Array | None = None, held: bool = False
    ) -> None:
        super().__init__()
        self.layer = layer
        self.table = nn.Parameter(torch.from_numpy(np.ascontiguousarray(table, np.float32)))
        self.register_buffer("codes", torch.from_numpy(codes.astype(np.int64)))
        self.register_buffer("signs", None if signs is None else torch.from_numpy(signs.astype(np.float32)))
        self.register_buffer("free", torch.from_numpy(table != 0) if held else None)
        layer.weight.requires_grad_(False)

    def weight(self) -> Tensor:
        """The weights as they are now."""
        table = self.table if self.free is None else self.table * self.free
        found = table[self.codes].view(self.layer.weight.shape)
        return found if self.signs is None else found * self.signs

    def forward(self, x: Tensor) -> Tensor:
        """As the layer."""
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, self.weight(), self.layer.bias)
        return cast(Tensor, self.layer._conv_forward(x, self.weight(), self.layer.bias))


Maker = Callable[[nn.Module], nn.Module]
"""Puts a Looked in the place of a layer, or leaves it."""


def trained(
    step: Guided, model: Model, data: Splits, task: Task, seed: int, make: Callable[[nn.Module], Maker]
) -> Generator[Progress, None, Progress]:
    """Train the tables of a network's large layers; the last Progress holds it with plain layers, batch norms folded.

    make: given the network with its batch norms folded, what is put in the place of a layer of at least `smallest`.
    """
    network = folded(model.body.value)
    network = replaced(network, make(network))
    guidance = step.guidance(model, data, task)
    training = step.training(model.with_body(network, "network", ""), data, task, seed, guidance)
    _scale(training.module, 1 / training.unit.deviation)
    yield from training.run()
    last = training.finish("retrain.adam")
    assert last.result is not None
    body = last.result.body.value
    _scale(body, training.unit.deviation)
    return replace(last, result=model.with_body(settled(body), "network", last.result.history[-1]))


def replaced(network: nn.Module, make: Maker) -> nn.Module:
    """The network with what is made of its weighted layers; its own modules are used."""
    if isinstance(network, WEIGHTED):
        return make(network)
    for name, child in network.named_children():
        setattr(network, name, replaced(child, make))
    return network


def settled(network: nn.Module) -> nn.Module:
    """The network with layers of torch's own that hold the weights that were looked up."""
    if isinstance(network, Looked):
        with torch.no_grad():
            network.layer.weight.copy_(network.weight())
        return cast(nn.Module, network.layer.requires_grad_(True))
    for name, child in network.named_children():
        setattr(network, name, settled(child))
    return network


def _scale(network: nn.Module, factor: float) -> None:
    """Scale the table of the layer that takes in the unit of the targets, as its weights have been."""
    last = head(network)
    for layer in network.modules():
        if isinstance(layer, Looked) and layer.layer is last:
            with torch.no_grad():
                layer.table.mul_(factor)
