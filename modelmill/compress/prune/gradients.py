"""What the gradients of the loss say of channels and of single weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelmill.compress.prune.masking import prunable
from modelmill.contracts import Task
from modelmill.network.slicing import Channels, norm_behind
from modelmill.train.rows import Rows

BELOW = -1e-20
"""A score below all that are sums of sizes, and too small to count among them."""


def taylor(network: nn.Module, groups: Sequence[Channels], seen: Rows, task: Task, batch: int) -> list[Tensor]:
    """For every group the mean over batches of (sum of gradient times weight)^2: (width,) float64.

    Molchanov et al. (2019), equation 8
    """
    sets = [_weights(group) for group in groups]
    every = [weight for weights in sets for weight in weights]
    totals = [torch.zeros(group.width, dtype=torch.float64) for group in groups]
    count = 0
    for gradients in _gradients(network, every, seen, task, batch):
        found, count = iter(gradients), count + 1
        for place, weights in enumerate(sets):
            parts = [_by_channel(weight * next(found), groups[place].width) for weight in weights]
            totals[place] += torch.stack(parts).sum(0) ** 2
    return [total / max(count, 1) for total in totals]


def saliency(network: nn.Module, seen: Rows, task: Task, batch: int) -> dict[str, Tensor]:
    """For single weights, by name, the mean over batches of |gradient times weight|; weights of 0 come last."""
    weights = {name: network.get_parameter(name) for name in prunable(network)}
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    count = 0
    for gradients in _gradients(network, list(weights.values()), seen, task, batch):
        count += 1
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            totals[name] += (weight.detach() * gradient).abs()
    return {name: torch.where(weights[name] == 0, BELOW, total / max(count, 1)) for name, total in totals.items()}


def _weights(group: Channels) -> list[Any]:
    """The weights that stand for the channels of a group: those of the norm behind a layer, else the layer's."""
    found = []
    for maker in group.makers:
        norm: Any = norm_behind(maker, group)
        layer = maker if norm is None or norm.weight is None or len(norm.weight) != group.width else norm
        found += [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    return found


def _by_channel(values: Tensor, width: int) -> Tensor:
    return values.detach().double().view(width, -1).sum(1)


def _gradients(
    network: nn.Module, weights: list[Tensor], seen: Rows, task: Task, batch: int
) -> Iterator[tuple[Tensor, ...]]:
    """The gradients of the loss by the weights, batch by batch, in evaluation mode; the mode is left as found."""
    training = network.training
    network.eval()
    with torch.enable_grad():
        for index in torch.arange(len(seen)).split(batch):
            weighed = None if seen.weights is None else seen.weights[index]
            loss = task.loss(network(seen.features[index]), seen.encoded[index], weighed, 0.0)
            yield torch.autograd.grad(loss, weights)
    network.train(training)
