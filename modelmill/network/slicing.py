"""Cuts channels out of our own networks: finds which tensors share a channel, and slices all of them alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from modelmill.errors import ModelError
from modelmill.network.blocks import Residual
from modelmill.network.graphbody import Graph

ACTIVE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Hardswish),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d),
)
"""What follows a map: activations and dropout."""

IDLE = (
    *ACTIVE,
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Identity, nn.Softmax),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d),
)
"""Modules through which a channel stays itself."""


@dataclass(eq=False)
class Channels:
    """Channels that go together: whoever writes, norms or reads them is cut alike."""

    width: int
    fixed: bool = False
    """Whether they cannot be cut: inputs and outputs of the network."""
    makers: list[nn.Module] = field(default_factory=list)
    """Layers that write them; depthwise convolutions read and write them."""
    norms: list[nn.Module] = field(default_factory=list)
    takers: list[nn.Module] = field(default_factory=list)
    joined: Channels | None = None

    def root(self) -> Channels:
        """The channels that these were joined with."""
        return self if self.joined is None else self.joined.root()

    def join(self, other: Channels) -> Channels:
        """Tie channels that are added to each other."""
        mine, theirs = self.root(), other.root()
        if mine is not theirs:
            mine.fixed = mine.fixed or theirs.fixed
            for name in ("makers", "norms", "takers"):
                getattr(mine, name).extend(getattr(theirs, name))
            theirs.joined = mine
        return mine


def channels(network: nn.Module) -> list[Channels]:
    """All channels of a network that can be cut, in the order in which they are written.

    Raises ModelError, naming the module, for a network with modules that we do not know.
    """
    found: list[Channels] = []
    start = Channels(width=-1, fixed=True)
    last = _walk(network, start, found, "body")
    last.root().fixed = True
    return [group for group in found if group.joined is None and not group.fixed]


def _walk(module: nn.Module, given: Channels, found: list[Channels], path: str) -> Channels:
    """Follow the channels through a module; the channels that come out."""
    given = given.root()
    if isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            given = _walk(child, given, found, f"{path}.{name}")
        return given
    if isinstance(module, Residual):
        inner = _walk(module.body, given, found, f"{path}.body")
        side = _walk(module.shortcut, given, found, f"{path}.shortcut")
        return _walk(module.after, inner.join(side), found, f"{path}.after")
    if isinstance(module, Graph):
        return _nodes(module, given, found, path)
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        return _weighted(module, given, found)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        given.norms.append(module)
        return given
    if isinstance(module, IDLE):
        return given
    raise ModelError(path, f"channels cannot be followed through {type(module).__name__}", "Leave this step out.")


def _nodes(module: Graph, given: Channels, found: list[Channels], path: str) -> Channels:
    """Follow the channels through a cell; those that it lays side by side stay as they are."""
    values = [given]
    for number, (node, row) in enumerate(zip(module.nodes, module.reads[:-1], strict=True)):
        values.append(_walk(node, _joined([values[i] for i in row]), found, f"{path}.nodes.{number}"))
    last = [values[i].root() for i in module.reads[-1]]
    if module.mix is None:
        return _joined(last)
    for value in last:
        value.fixed = True
    return _walk(module.mix, Channels(width=-1, fixed=True), found, f"{path}.mix")


def _joined(values: Sequence[Channels]) -> Channels:
    first = values[0].root()
    for value in values[1:]:
        first = first.join(value)
    return first


def _weighted(module: nn.Module, given: Channels, found: list[Channels]) -> Channels:
    groups = int(getattr(module, "groups", 1))
    if groups > 1 and groups == module.weight.shape[0] == given.width:
        given.makers.append(module)
        return given
    made = Channels(width=int(module.weight.shape[0]), fixed=groups > 1, makers=[module])
    given.fixed = given.fixed or groups > 1
    given.takers.append(module)
    found.append(made)
    return made


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
        total += size * _gain(_norm_behind(maker, group), group.width)
    return total


def _norm_behind(maker: nn.Module, group: Channels) -> nn.Module | None:
    """The batch norm that follows a layer: they are listed in the order in which they run."""
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


def prune(
    network: nn.Module, counts: Callable[[Channels], int], norm: str, groups: Sequence[Channels] | None = None
) -> list[str]:
    """Cut a network in place so that `counts(group)` channels of every group stay: the largest ones.

    What was cut, a phrase a group, such as "0: 16 to 8".
    """
    names = {id(module): name for name, module in network.named_modules()}
    said = []
    for group in channels(network) if groups is None else groups:
        count = counts(group)
        if count >= group.width:
            continue
        largest = torch.sort(sizes(group, norm), descending=True, stable=True).indices[:count]
        said.append(f"{_names(group.makers, names)}: {group.width} to {count}")
        cut(group, largest.sort().values)
    return said


def _names(modules: Iterable[nn.Module], names: dict[int, str]) -> str:
    return "+".join(names[id(module)] or "body" for module in modules)


def removable(network: nn.Module) -> list[tuple[int, int]]:
    """The blocks of a Sequential that can go: (first, one past last) places of its children.

    A residual block with a plain shortcut is one; so is a map between equal numbers of channels, without a stride, with
    the norm, activation and dropout behind it.
    """
    children = list(network.children()) if isinstance(network, nn.Sequential) else []
    found = []
    for place, child in enumerate(children):
        if isinstance(child, Residual) and isinstance(child.shortcut, nn.Identity):
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
        2 * p == k - 1 for p, k in zip(module.padding, module.kernel_size, strict=True)
    )


def without(network: nn.Module, stay: Sequence[bool]) -> nn.Module:
    """The network without the removable blocks whose flag is False; blocks that have no flag stay.

    >>> layers = [nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)]
    >>> len(without(nn.Sequential(*layers), [False]))
    3
    """
    gone = [place for place, flag in zip(removable(network), stay, strict=False) if not flag]
    lost = {i for first, end in gone for i in range(first, end)}
    if not lost:
        return network
    return nn.Sequential(*(child for i, child in enumerate(network.children()) if i not in lost))


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())
