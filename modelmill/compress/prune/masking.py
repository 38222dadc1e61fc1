"""Which single weights of a network become zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def share(final: float, epoch: int, epochs: int) -> float:
    """The share of zeros during the epoch after `epoch`: it grows fast at first, and is final after half of them.

    >>> [round(share(0.8, epoch, 8), 3) for epoch in range(5)]
    [0.463, 0.7, 0.788, 0.8, 0.8]

    Zhu & Gupta (2018), equation 1
    """
    grows = max(epochs // 2, 1)
    done = min((epoch + 1) / grows, 1.0)
    return final * (1 - (1 - done) ** 3)


def prunable(network: nn.Module) -> dict[str, Tensor]:
    """The weights of convolutions and linear layers, by name, detached."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    layers = ((name, layer) for name, layer in network.named_modules() if isinstance(layer, kinds))
    return {f"{name}.weight".removeprefix("."): layer.weight.detach() for name, layer in layers}


def masks(network: nn.Module, ratio: float, scope: str) -> dict[str, Tensor]:
    """For every weight whether it stays: the share `ratio` with the smallest ones goes, by layer or of all together."""
    weights = prunable(network)
    if scope == "local":
        return {name: _largest(weight.abs().flatten(), ratio).view_as(weight) for name, weight in weights.items()}
    together = _largest(torch.cat([_relative(weight) for weight in weights.values()]), ratio)
    parts = together.split([weight.numel() for weight in weights.values()])
    return {
        name: _not_empty(part.view_as(weight), weight)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }


def _relative(weight: Tensor) -> Tensor:
    """Sizes in units of the layer's own, so that layers of different scale can be compared."""
    size = weight.abs().flatten()
    return size / size.pow(2).mean().sqrt().clamp_min(1e-12)


def _largest(size: Tensor, ratio: float) -> Tensor:
    gone = torch.argsort(size, stable=True)[: min(round(ratio * len(size)), len(size) - 1)]
    stays = torch.ones(len(size), dtype=torch.bool)
    stays[gone] = False
    return stays


def _not_empty(stays: Tensor, weight: Tensor) -> Tensor:
    """A layer never loses its last weight."""
    if not stays.any():
        stays.view(-1)[weight.abs().argmax()] = True
    return stays


def zeros(network: nn.Module) -> float:
    """The share of weights that are zero."""
    weights = list(prunable(network).values())
    total = sum(weight.numel() for weight in weights)
    gone: int = sum(int((weight == 0).sum()) for weight in weights)
    return float(gone / max(total, 1))
