"""Scores of single weights by how they move while a network is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from modelmill.compress.prune.masking import prunable


class Movement:
    """The sum, over all steps of a training, of -weight * gradient: high for weights that move away from zero.

    What a masked weight was is remembered, and its score goes on as if it were still that (straight-through), so that
    it may come back.

    Sanh et al. (2020), https://arxiv.org/abs/2005.07683, equation 3
    """

    def __init__(self, network: nn.Module) -> None:
        self.parameters = {name: network.get_parameter(name) for name in prunable(network)}
        self.scores = {name: torch.zeros_like(weight) for name, weight in prunable(network).items()}
        self.hidden = {name: weight.clone() for name, weight in prunable(network).items()}
        """The weights as they would be without masks."""
        self.masks: Mapping[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            parameter.register_post_accumulate_grad_hook(self._counter(name))

    def bring_back(self, masks: Mapping[str, Tensor]) -> None:
        """Let weights be what they were before they were masked, and those of the new masks be masked from now on."""
        for name, parameter in self.parameters.items():
            self.hidden[name] = self._whole(name)
            parameter.data.copy_(self.hidden[name])
        self.masks = masks

    def _whole(self, name: str) -> Tensor:
        weight = self.parameters[name].detach()
        return torch.where(self.masks[name], weight, self.hidden[name]) if self.masks else weight.clone()

    def _counter(self, name: str) -> Callable[[Tensor], None]:
        def count(parameter: Tensor) -> None:
            if parameter.grad is not None:
                self.scores[name] -= self._whole(name) * parameter.grad

        return count
