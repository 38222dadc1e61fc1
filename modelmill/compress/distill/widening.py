"""Makes a network wider and leaves what it answers: channels are copied, and who reads them shares them out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modelmill.network.slicing import Channels, channels, cut


def widen(network: nn.Module, widths: Sequence[int], noise: float, seed: int) -> None:
    """Give the groups of channels of a network so many channels, in place; a width that is no larger changes nothing.

    Copies get the weights of the channel that they copy, and a little noise, `noise` times the deviation of the layer's
    weights: without it both would learn the same for ever.

    Chen, Goodfellow & Shlens (2016), https://arxiv.org/abs/1511.05641, algorithm 1
    """
    random = torch.Generator().manual_seed(seed)
    for group, width in zip(channels(network), widths, strict=True):
        old = group.width
        if width <= old:
            continue
        source = torch.cat([torch.arange(old), torch.randint(old, (width - old,), generator=random)])
        cut(group, source)
        _share_out(group, torch.bincount(source, minlength=old)[source])
        for maker in group.makers:
            _disturb(maker, old, noise, random)


def _share_out(group: Channels, copies: Tensor) -> None:
    """Divide what is read of each channel by how many there are of it now."""
    with torch.no_grad():
        for taker in group.takers:
            each = copies.repeat_interleave(taker.weight.shape[1] // len(copies))
            taker.weight.div_(each.view(1, -1, *[1] * (taker.weight.ndim - 2)))


def _disturb(maker: nn.Module, old: int, noise: float, random: torch.Generator) -> None:
    with torch.no_grad():
        new = maker.weight[old:]
        new.add_(noise * maker.weight.std() * torch.randn(new.shape, generator=random))
