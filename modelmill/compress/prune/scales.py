"""The scales of batch norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelmill.network.slicing import Channels, channels


def scaled(group: Channels) -> bool:
    """Whether a group of channels has a batch norm with scales."""
    return bool(_norms(group))


def scales(group: Channels) -> Tensor:
    """The sizes of each channel's scales, over all batch norms of the group: (width,)."""
    sizes = [norm.weight.detach().double().abs().view(group.width, -1).mean(1) for norm in _norms(group)]
    return torch.stack(sizes).sum(0)


def total(network: nn.Module) -> Tensor:
    """The sum of all scales of channels that can be cut."""
    return torch.stack([norm.weight.abs().sum() for group in channels(network) for norm in _norms(group)]).sum()


def _norms(group: Channels) -> list[Any]:
    return [norm for norm in group.norms if norm.weight is not None]
