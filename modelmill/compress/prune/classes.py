"""How well single channels tell classes apart."""

from __future__ import annotations

import torch
from torch import Tensor


def apart(activations: Tensor, encoded: Tensor) -> Tensor:
    """How far a channel's mean on a class lies from that on all other rows, in its standard deviations.

    activations: (rows, width). encoded: (rows,). The result: (classes, width), of the classes that there are.

    >>> apart(torch.tensor([[0.0, 1.0], [0.0, 3.0], [4.0, 3.0], [4.0, 1.0]]), torch.tensor([0, 0, 1, 1])).tolist()
    [[2.0, 0.0], [2.0, 0.0]]
    """
    spread = activations.std(0, unbiased=False).clamp_min(1e-12)
    known = torch.unique(encoded)
    if len(known) < 2:
        return torch.zeros(1, activations.shape[1])
    gaps = [activations[encoded == one].mean(0) - activations[encoded != one].mean(0) for one in known]
    return torch.stack(gaps).abs() / spread


def in_turn(scores: Tensor) -> Tensor:
    """Importance by the best place that any class gives a channel; among equal places, by its score there: (width,).

    scores: (classes, width).

    >>> in_turn(torch.tensor([[3.0, 2.0, 0.1], [0.0, 0.1, 0.2]])).argsort(descending=True).tolist()
    [0, 2, 1]
    """
    order = torch.argsort(scores, dim=1, descending=True, stable=True)
    places = torch.argsort(order, dim=1).double()
    small = scores.double() / (1 + scores.double().max())
    return (small - places).max(0).values
