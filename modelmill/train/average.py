"""Averages of a network's weights over its training, which generalize better than the last ones."""

from __future__ import annotations

import copy
from typing import Any

import torch

CHUNK = 1024
"""Rows of one pass in which norms learn anew what they see."""


class Average:
    """A copy of a module whose weights follow those of the module slowly.

    Polyak & Juditsky (1992), https://doi.org/10.1137/0330046
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval() if decay else module
        self.decay = decay
        self._floats, self._others = _pairs(self.module, module)

    def update(self, steps: int) -> None:
        """Take in the weights after so many steps; the first ones are forgotten faster."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + steps) / (10 + steps))
        with torch.no_grad():
            torch._foreach_lerp_(self._floats[0], self._floats[1], 1 - decay)
            for mine, theirs in self._others:
                mine.copy_(theirs)


class EpochMean:
    """The mean of a module's weights at the ends of several epochs (SWA).

    Izmailov et al. (2018), https://arxiv.org/abs/1803.05407, algorithm 1
    """

    def __init__(self) -> None:
        self.count = 0
        """Epochs that are in the mean."""
        self.weights: dict[str, torch.Tensor] = {}
        """Their mean, by name; the last one of what is no float."""

    def take(self, module: torch.nn.Module) -> None:
        """Take in the weights as they are now."""
        self.count += 1
        for name, value in tensors(module).items():
            if name in self.weights and value.is_floating_point():
                self.weights[name].lerp_(value, 1 / self.count)
            else:
                self.weights[name] = value.clone()

    def settled(self, module: torch.nn.Module, features: torch.Tensor) -> torch.nn.Module:
        """A copy of the module with the mean weights, its batch norms at home with them."""
        mean = copy.deepcopy(module)
        mean.load_state_dict(self.weights)
        refresh(mean, features)
        return mean


def refresh(module: torch.nn.Module, features: torch.Tensor) -> None:
    """Give the batch norms of a network the statistics that its present weights make of these rows."""
    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]
    module.eval()
    if not norms or len(features) < 2:
        return
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all passes, each counting the same
        layer.train()
    with torch.no_grad():
        for chunk in features.tensor_split(-(-len(features) // CHUNK)):
            module(chunk)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    module.eval()


def _pairs(mine: torch.nn.Module, theirs: torch.nn.Module) -> tuple[Any, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Tensors of both modules: parallel lists of those that are averaged, and pairs of those that are copied."""
    both = list(zip(tensors(mine).values(), tensors(theirs).values(), strict=True))
    floats = [pair for pair in both if pair[0].is_floating_point()]
    return ([a for a, _ in floats], [b for _, b in floats]), [pair for pair in both if not pair[0].is_floating_point()]


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights and buffers by name, live and detached."""
    return {name: value.detach() for name, value in module.state_dict(keep_vars=True).items()}
