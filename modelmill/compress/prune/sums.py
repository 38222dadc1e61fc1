"""What single channels add to the sums of the layers that take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from modelmill.augment.draws import generator
from modelmill.compress.prune.readings import Reading, passes
from modelmill.network.slicing import Channels

MOST = 4_000_000
"""How many numbers are held at once."""


def products(network: nn.Module, groups: Sequence[Channels], features: Tensor, places: int, seed: int) -> list[Tensor]:
    """For every group the inner products of what its channels add to the next layers' sums: (width, width) float64.

    Over all rows, all outputs of the layers, and some of their pixels.
    """
    found = [torch.zeros(group.width, group.width, dtype=torch.float64) for group in groups]
    random = torch.Generator().manual_seed(int(generator(seed, 2, 0).integers(2**62)))
    with torch.no_grad():
        for one in passes(network, groups, features):
            for place, readings in enumerate(one.readings):
                for reading in readings:
                    found[place] += _products(reading, places, random)
    return found


def leaving(products: Tensor) -> Tensor:
    """Importance by the order in which channels leave: the one that leaves last has the most: (width,).

    products: (width, width). Without the channels T a sum is off by theirs, whose square is the sum of T's products.

    >>> x = torch.tensor([[5.0, 4.5, -5.0], [3.0, 4.0, -3.0]])
    >>> leaving(x.T @ x).tolist()
    [0.0, 2.0, 1.0]
    """
    own, shared = products.diagonal().clone(), torch.zeros(len(products), dtype=products.dtype)
    scores = torch.zeros(len(products), dtype=torch.float64)
    for turn in range(len(products)):
        cost = own + 2 * shared
        gone = int(cost.argmin())
        scores[gone], own[gone] = turn, torch.inf
        shared += products[gone]
    return scores


def _products(reading: Reading, places: int, random: torch.Generator) -> Tensor:
    """Of one layer: products of what each two channels add to a sum, over the sums that are looked at."""
    layer: Any = reading.taker
    width = reading.width
    weight = layer.weight.detach().double().view(len(layer.weight), width, -1)
    patches = _patches(reading, places, random).view(-1, width, weight.shape[2])
    total = torch.zeros(width, width, dtype=torch.float64)
    for some in patches.split(max(1, MOST // (len(weight) * width))):
        added = torch.einsum("ncs,ocs->noc", some, weight).flatten(0, 1)
        total += added.T @ added
    return total


def _patches(reading: Reading, places: int, random: torch.Generator) -> Tensor:
    """What the layer reads for an output, one row each: (patches, width * size), channel by channel."""
    layer: Any = reading.taker
    if isinstance(layer, nn.Linear):
        return reading.value.flatten(0, -2).double()
    value, axes = reading.value, [layer.kernel_size, layer.dilation, layer.padding, layer.stride]
    if isinstance(layer, nn.Conv1d):
        value, axes = value.unsqueeze(2), [(1, *kernel) for kernel in axes]
        axes[2] = (0, *layer.padding)
    unfolded = functional.unfold(value, *axes)
    drawn = torch.rand(len(value), 1, unfolded.shape[2], generator=random).argsort(2)[:, :, :places]
    chosen = unfolded.gather(2, drawn.expand(-1, unfolded.shape[1], -1))
    return chosen.transpose(1, 2).flatten(0, 1).double()
