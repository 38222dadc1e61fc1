"""Which single weights of a network become zero."""

from __future__ import annotations

from collections.abc import Mapping

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
    """The weights of convolutions, linear layers and recurrent units, by name, detached."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.RNNBase)
    return {
        f"{name}.{part}".removeprefix("."): weight.detach()
        for name, layer in network.named_modules()
        if isinstance(layer, kinds)
        for part, weight in layer.named_parameters(recurse=False)
        if part.startswith("weight")
    }


def masks(
    network: nn.Module, ratio: float, scope: str, scores: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """For every weight whether it stays: the share `ratio` with the lowest scores goes, by layer or of all together.

    scope: "local" by layer; "global" all together, by scores in units of the layer's own; "adaptive" all together, by
    the share of a layer's squares that would be lost with a weight, once all smaller ones are.
    scores: of the shape of the weights, by name; their sizes where none are given.
    """
    if scores is None:
        scores = {name: weight.abs() for name, weight in prunable(network).items()}
    if scope == "local":
        return {name: _largest(score.flatten(), ratio).view_as(score) for name, score in scores.items()}
    compared = _lost if scope == "adaptive" else _relative
    together = _largest(torch.cat([compared(score) for score in scores.values()]), ratio)
    parts = together.split([score.numel() for score in scores.values()])
    return {
        name: _not_empty(part.view_as(score), score) for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def below(network: nn.Module, threshold: float) -> float:
    """The share of weights whose size is below so many times the root mean square of their layer.

    Cut by "global" scope that share is these very weights.
    """
    scores = torch.cat([_relative(weight.abs()) for weight in prunable(network).values()])
    return float((scores < threshold).float().mean())


def _relative(score: Tensor) -> Tensor:
    """Scores in units of the layer's own, so that layers of different scale can be compared."""
    flat = score.flatten()
    return flat / flat.pow(2).mean().sqrt().clamp_min(1e-30)


def _lost(score: Tensor) -> Tensor:
    """The square of each score over the sum of its own and all larger ones (LAMP); scores below zero stay.

    >>> _lost(torch.tensor([1.0, -2.0, 2.0, 2.0])).tolist()
    [0.1111111119389534, -2.0, 0.5, 1.0]

    Lee et al. (2021), https://arxiv.org/abs/2010.07611, equation 1
    """
    flat = score.flatten().double()
    order = torch.argsort(flat, stable=True)
    squares = flat[order].clamp_min(0).square()
    left = squares.flip(0).cumsum(0).flip(0)
    lost = torch.empty_like(flat)
    lost[order] = torch.where(flat[order] < 0, flat[order], squares / left.clamp_min(1e-300))
    return lost.to(score.dtype)


def _largest(score: Tensor, ratio: float) -> Tensor:
    gone = torch.argsort(score, stable=True)[: min(round(ratio * len(score)), len(score) - 1)]
    stays = torch.ones(len(score), dtype=torch.bool)
    stays[gone] = False
    return stays


def _not_empty(stays: Tensor, score: Tensor) -> Tensor:
    """A layer never loses its last weight."""
    if not stays.any():
        stays.view(-1)[score.argmax()] = True
    return stays


def zeros(network: nn.Module) -> float:
    """The share of weights that are zero."""
    weights = list(prunable(network).values())
    total = sum(weight.numel() for weight in weights)
    gone: int = sum(int((weight == 0).sum()) for weight in weights)
    return float(gone / max(total, 1))
