"""Gates on channels that learn to close: random while training, with a known chance to be open."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from modelmill.network.slicing import Channels, channels, cut, kept, largest
from modelmill.train.training import Training

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Beta, gamma and zeta of the paper."""


class HardConcrete(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A gate for every channel of a group; `log_alpha` is what it learns.

    Louizos et al. (2018), https://arxiv.org/abs/1712.01312, equations 10 to 13
    """

    def __init__(self, place: int, width: int, weights: int, start: float) -> None:
        super().__init__()
        self.place, self.weights = place, weights
        """Which group it is of, and how many weights go with one of its channels."""
        self.log_alpha = nn.Parameter(torch.full((width,), math.log(start / (1 - start))))
        self.drawn: Tensor | None = None

    def draw(self) -> None:
        """Draw gates for a pass, so that all layers of the group see the same."""
        noise = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6)
        self.drawn = _stretched((noise.log() - (-noise).log1p() + self.log_alpha) / TEMPERATURE)

    def forward(self) -> Tensor:
        """The gates: (width,), in [0, 1]; in evaluation what they are without noise."""
        return self.drawn if self.training and self.drawn is not None else _stretched(self.log_alpha)

    def open(self) -> Tensor:
        """The chance of each gate not to be closed: (width,)."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


def _stretched(logits: Tensor) -> Tensor:
    return (torch.sigmoid(logits) * (HIGH - LOW) + LOW).clamp(0, 1)


class Gated(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A layer that reads its channels through gates."""

    def __init__(self, gate: HardConcrete, layer: nn.Module) -> None:
        super().__init__()
        self.gate, self.layer = gate, layer

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's."""
        return cast(Tensor, self.layer(x * _along(self.gate(), self.layer, x.shape, x.ndim - 1)))


def _along(gates: Tensor, layer: nn.Module, shape: Sequence[int], last: int) -> Tensor:
    """Gates in a shape that multiplies what the layer reads, or its weight."""
    axis = last if isinstance(layer, nn.Linear) else 1
    spread = gates.repeat_interleave(shape[axis] // len(gates))
    return spread.view(*(-1 if i == axis else 1 for i in range(len(shape))))


def gated(network: nn.Module, start: float) -> nn.Module:
    """A copy of a network that reads all channels that can be cut through gates, open with the chance `start`."""
    network = copy.deepcopy(network)
    for place, group in enumerate(channels(network)):
        gate = HardConcrete(place, group.width, _weights(group), start)
        _swap(network, {id(taker): Gated(gate, taker) for taker in group.takers})
    network.register_forward_pre_hook(_draw)
    network.register_forward_hook(_forget)
    return network


def _weights(group: Channels) -> int:
    """How many weights go with one channel of a group."""
    layers: list[Any] = [*group.makers, *group.takers]
    return int(sum(layer.weight.numel() for layer in layers) // group.width)


def _swap(network: nn.Module, new: dict[int, nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if id(child) in new and not isinstance(parent, Gated):
                parent._modules[name] = new[id(child)]


def _draw(network: nn.Module, given: Any) -> None:
    if network.training:
        for gate in gates(network):
            gate.draw()


def _forget(network: nn.Module, given: Any, made: Any) -> None:
    for gate in gates(network):
        gate.drawn = None


def gates(network: nn.Module) -> list[HardConcrete]:
    """The gates of a network, by the groups that they are of."""
    found = (module for module in network.modules() if isinstance(module, HardConcrete))
    return sorted(found, key=lambda gate: gate.place)


def expected(network: nn.Module) -> Tensor:
    """The share of weights behind gates that is expected to be used: 1 where all gates are open."""
    found = gates(network)
    used = torch.stack([gate.open().sum() * gate.weights for gate in found]).sum()
    return used / sum(len(gate.log_alpha) * gate.weights for gate in found)


def quicken(training: Training, scale: float) -> None:
    """Let the gates of a training take steps so many times as large as the weights do."""
    learned = [gate.log_alpha for gate in gates(training.module)]
    known = set(map(id, learned))
    for group in training.optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in known]
    training.optimizer.add_param_group({"params": learned, "weight_decay": 0.0, "scale": scale})


def freed(network: nn.Module, most: float, multiple: int) -> tuple[nn.Module, list[int]]:
    """A copy without gates: open ones are folded into the weights, closed ones cut; how many channels stay in a group.

    No group loses more than the share `most`, and the channels that stay are rounded up to a multiple.
    """
    network = copy.deepcopy(network)
    network._forward_pre_hooks.clear()
    network._forward_hooks.clear()
    found = gates(network)
    inner = {id(module): module.layer for module in network.modules() if isinstance(module, Gated)}
    with torch.no_grad():
        for module in list(network.modules()):
            if isinstance(module, Gated):
                layer: Any = module.layer
                layer.weight.mul_(_along(_stretched(module.gate.log_alpha), layer, layer.weight.shape, 1))
    _swap(network, inner)
    counts = []
    for gate, group in zip(found, channels(network), strict=True):
        wanted = int((_stretched(gate.log_alpha) > 0).sum())
        count = max(kept(group.width, most, multiple), min(group.width, -(-wanted // multiple) * multiple))
        cut(group, largest(gate.log_alpha.detach(), count))
        counts.append(count)
    return network, counts
