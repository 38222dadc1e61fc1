"""Cuts channels and blocks out of our own networks: every tensor that has a channel is sliced alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelmill.errors import ModelError
from modelmill.network.blocks import Residual
from modelmill.network.following import ACTIVE, Channels, channels
from modelmill.network.graphbody import Graph
from modelmill.network.passing import ways

UNKNOWN = -1
"""Stands for the channels that come into a network; no layer makes so many."""


def kept(width: int, ratio: float, multiple: int) -> int:
    """How many of `width` channels stay when the share `ratio` goes, rounded up to a multiple; at least one.

    >>> kept(16, 0.6, 4), kept(3, 0.99, 1), kept(6, 0.5, 8)
    (8, 1, 6)
    """
    steps = math.ceil(round(width * (1 - ratio) / multiple, 9))
    return min(width, max(1, steps * multiple))


def sizes(group: Channels, norm: str) -> Tensor:
    """How large each channel's weights are, with the batch norm behind them: (width,)."""
    total = torch.zeros(group.width, dtype=torch.float64)
    for maker in group.makers:
        rows = maker.weight.detach().double().flatten(1)
        size = rows.abs().sum(1) if norm == "l1" else rows.pow(2).sum(1).sqrt()
        total += size * _gain(norm_behind(maker, group), group.width)
    return total


def norm_behind(maker: nn.Module, group: Channels) -> nn.Module | None:
    """The batch norm that follows a layer: they are listed in the order in which they run.

    None where there is none, or where layers and norms of the group cannot be told apart in pairs.
    """
    place = group.makers.index(maker)
    return group.norms[place] if len(group.norms) == len(group.makers) else None


def _gain(norm: Any, width: int) -> Tensor:
    if norm is None or norm.weight is None or norm.running_var is None or len(norm.weight) != width:
        return torch.ones(width, dtype=torch.float64)
    return norm.weight.detach().double().abs() / (norm.running_var.double() + norm.eps).sqrt()


def cut(group: Channels, keep: Tensor) -> None:
    """Slice every tensor of the group, in place, to the channels at `keep`."""
    for module in group.makers:
        _slice(module, "weight", 0, keep)
        _slice(module, "bias", 0, keep)
    for module in group.norms:
        index = _spread(keep, len(module.running_mean) // group.width) if module.running_mean is not None else keep
        for name in ("weight", "bias", "running_mean", "running_var"):
            _slice(module, name, 0, index)
    for module in group.takers:
        _slice(module, "weight", 1, _spread(keep, module.weight.shape[1] // group.width))
    for module in (*group.makers, *group.norms, *group.takers):
        _resize(module)


def _spread(keep: Tensor, repeat: int) -> Tensor:
    """Positions of the channels' pixels after a Flatten, `repeat` to a channel."""
    return (keep[:, None] * repeat + torch.arange(repeat)).flatten()


def _slice(module: nn.Module, name: str, axis: int, index: Tensor) -> None:
    value = getattr(module, name, None)
    if value is None:
        return
    sliced = value.detach().index_select(axis, index).clone()
    if isinstance(value, nn.Parameter):
        setattr(module, name, nn.Parameter(sliced, requires_grad=value.requires_grad))
    else:
        setattr(module, name, sliced)


def _resize(module: Any) -> None:
    """Let the module's own numbers say what its tensors are."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.groups > 1:
            module.groups = module.out_channels = module.in_channels = module.weight.shape[0]
        else:
            module.out_channels, module.in_channels = module.weight.shape[:2]
    elif module.running_mean is not None:
        module.num_features = len(module.running_mean)


def shaped(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network, changed in place, with weights that may be those of a narrower or a wider one of the same layers.

    Raises RuntimeError where it lacks some of them, or has others.
    """
    for name, value in weights.items():
        path, _, leaf = name.rpartition(".")
        layer = network.get_submodule(path)
        old = getattr(layer, leaf)
        if old.shape == value.shape:
            continue
        if isinstance(old, nn.Parameter):
            setattr(layer, leaf, nn.Parameter(value.clone(), requires_grad=old.requires_grad))
        else:
            setattr(layer, leaf, value.clone())
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d):
            _resize(layer)
    network.load_state_dict(weights)
    return network


def prune(
    network: nn.Module, counts: Callable[[Channels], int], norm: str, groups: Sequence[Channels] | None = None
) -> list[str]:
    """Cut a network in place so that `counts(group)` channels of every group stay: the largest ones.

    What was cut, a phrase a group, such as "0: 16 to 8".
    """
    said = []
    for group in channels(network) if groups is None else groups:
        count = counts(group)
        if count >= group.width:
            continue
        said.append(f"{named(network, group)}: {group.width} to {count}")
        cut(group, largest(sizes(group, norm), count))
    return said


def widths(network: nn.Module) -> list[int]:
    """The widths of all groups of channels that go together, in the order of the layers; none where nobody can tell."""
    try:
        return [group.width for group in channels(network)]
    except ModelError:
        return []


def narrowed(network: nn.Module, sizes: Sequence[int]) -> bool:
    """Cut the first channels of every group to that many, in place; whether the network has so many groups, as wide."""
    if len(widths(network)) != len(sizes):
        return False
    groups = channels(network)
    if any(size > group.width for group, size in zip(groups, sizes, strict=True)):
        return False
    for group, size in zip(groups, sizes, strict=True):
        if size < group.width:
            cut(group, torch.arange(size))
    return True


def largest(scores: Tensor, count: int) -> Tensor:
    """The places of the `count` largest scores, in rising order; of equal ones the first stay.

    >>> largest(torch.tensor([0.5, 2.0, 0.5, 1.0]), 3).tolist()
    [0, 1, 3]
    """
    return torch.sort(scores, descending=True, stable=True).indices[:count].sort().values


def named(network: nn.Module, group: Channels) -> str:
    """The layers that write the group, by their names in the network."""
    names = {id(module): name for name, module in network.named_modules()}
    return "+".join(names[id(module)] or "body" for module in group.makers)


def removable(network: nn.Module) -> list[tuple[int, int]]:
    """The blocks of a Sequential that can go: (first, one past last) places of its children.

    A residual block with a plain shortcut is one; so is a cell that gives as many channels as it takes, which it may no
    longer do once some were cut; so is a map between equal numbers of channels, without a stride, with the norm,
    activation and dropout behind it.
    """
    children = list(network) if isinstance(network, nn.Sequential) else []
    widths = ways(network, UNKNOWN) if children else []
    found = []
    for place, child in enumerate(children):
        if isinstance(child, Graph):
            found += [(place, place + 1)] if widths[place] == widths[place + 1] else []
        elif isinstance(child, Residual) and isinstance(child.shortcut, nn.Identity):
            found.append((place, place + 1))
        elif _keeps_shape(child) and any(isinstance(other, nn.Linear) for other in children[place + 1 :]):
            end = place + 1
            while end < len(children) and isinstance(children[end], (nn.BatchNorm1d, nn.BatchNorm2d, *ACTIVE)):
                end += 1
            found.append((place, end))
    return found


def _keeps_shape(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):
        return bool(module.in_features == module.out_features)
    if not isinstance(module, nn.Conv2d) or module.in_channels != module.out_channels:
        return False
    return module.stride == (1, 1) and all(
        2 * p == d * (k - 1) for p, d, k in zip(module.padding, module.dilation, module.kernel_size, strict=True)
    )


def without(network: nn.Module, stay: Sequence[bool]) -> nn.Module:
    """The network without the removable blocks whose flag is False; blocks that have no flag stay.

    >>> layers = [nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)]
    >>> len(without(nn.Sequential(*layers), [False]))
    3
    """
    gone = [place for place, flag in zip(removable(network), stay, strict=False) if not flag]
    lost = {i for first, end in gone for i in range(first, end)}
    if not lost or not isinstance(network, nn.Sequential):
        return network
    children = list(network)
    return nn.Sequential(*(child for i, child in enumerate(children) if i not in lost))


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


__all__ = ["Channels", "channels", "cut", "kept", "largest", "named", "norm_behind", "parameters", "prune", "removable"]
__all__ += ["shaped", "sizes", "without"]
