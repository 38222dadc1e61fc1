"""The optimizer of a recipe, over the weights of a network."""

from __future__ import annotations

from typing import Any

import torch

from modelmill.train.recipe import Recipe
from modelmill.train.tuning import Tuner

Group = dict[str, Any]
"""Parameters of one weight decay, and of one `scale` of the step size."""


def optimizer(module: torch.nn.Module, recipe: Recipe, tuner: Tuner | None) -> torch.optim.Optimizer:
    """Adam or SGD over all weights that learn; biases and norms do not decay, nor does what is drawn to its start."""
    if tuner is None:
        groups = split([p for p in module.parameters() if p.requires_grad], recipe.weight_decay)
    else:
        groups = [
            {**group, "scale": tuner.scale(layer)}
            for layer in tuner.layers
            for free, decay in ((True, recipe.weight_decay), (False, 0.0))
            for group in split([p for p in layer.parameters if tuner.free(p) is free], decay)
        ]
    lr = recipe.learning_rate
    if recipe.optimizer == "adam":
        cls = torch.optim.AdamW if recipe.decoupled else torch.optim.Adam
        return cls(groups, lr=lr, fused=True)
    return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)


def split(parameters: list[torch.nn.Parameter], decay: float) -> list[Group]:
    """Weights, which decay, and biases and norms, which do not; without empty groups."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
