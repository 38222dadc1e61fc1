"""A running average of a network's weights, which generalizes better than the last ones."""

from __future__ import annotations

import copy
from typing import Any

import torch


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


def _pairs(mine: torch.nn.Module, theirs: torch.nn.Module) -> tuple[Any, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Tensors of both modules: parallel lists of those that are averaged, and pairs of those that are copied."""
    both = list(zip(tensors(mine).values(), tensors(theirs).values(), strict=True))
    floats = [pair for pair in both if pair[0].is_floating_point()]
    return ([a for a, _ in floats], [b for _, b in floats]), [pair for pair in both if not pair[0].is_floating_point()]


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights and buffers by name, live and detached."""
    return {name: value.detach() for name, value in module.state_dict(keep_vars=True).items()}
