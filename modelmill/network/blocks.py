"""Our own network modules, and how their weights start; imported only where torch is at hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from modelmill.errors import ModelError
from modelmill.signature import Signature


class Residual(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """`after(body(x) + shortcut(x))`.

    body: Sequential of convolutions, batch norms and activations. shortcut: Identity where shapes agree, else a
    Sequential of a 1x1 convolution (same stride, same output channels) and, if wanted, a batch norm.
    """

    def __init__(self, body: nn.Sequential, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to the same or a smaller image."""
        return cast(Tensor, self.after(self.body(x) + self.shortcut(x)))


class Widened(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A shortcut that learns nothing: every so manyth pixel, and channels of zeros behind those that come in.

    He et al. (2016), https://arxiv.org/abs/1512.03385, option A of section 3.3
    """

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, channels + more, ceil(height / stride), ceil(width / stride))."""
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class Excited(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Channels times how much each matters, by what all of them are on average (squeeze and excitation).

    Hu et al. (2018), https://arxiv.org/abs/1709.01507
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        maps = [nn.Conv2d(width, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, width, 1)]
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), *maps, nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to the same shape."""
        return cast(Tensor, x * self.gate(x))


class Shared(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """One of the places that use the weights of a layer: they are stored once, and norms behind them apart."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """As the layer."""
        return cast(Tensor, self.layer(x))


def sharing(block: nn.Module, count: int) -> list[nn.Module]:
    """So many blocks that use the weights of the first one's convolutions; their norms are their own.

    What passes through a block again has another mean and deviation than before: with one norm for all of them, none
    of them would be at home with it.
    """
    for name, child in [*block.named_modules()]:
        if isinstance(child, nn.Conv2d):
            place, _, key = name.rpartition(".")
            setattr(block.get_submodule(place), key, Shared(child))
    kept = {id(child): child for child in block.modules() if isinstance(child, nn.Conv2d)}
    return [block, *(copy.deepcopy(block, dict(kept)) for _ in range(count - 1))]


def convolved(
    given: int, made: int, kernel: int, stride: int = 1, *, groups: int = 1, after: Iterable[nn.Module] = ()
) -> list[nn.Module]:
    """A convolution without bias, its batch norm, and what follows; a stride of s leaves ceil(size / s) pixels."""
    conv = nn.Conv2d(given, made, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(made), *after]


def named_weights(module: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by name, each once: of several names that a tensor has, the first."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def fill(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a module the weights that `named_weights` gave of one like it. Raises ModelError where they do not fit."""
    mine = named_weights(module)
    if {name: value.shape for name, value in mine.items()} != {name: value.shape for name, value in weights.items()}:
        raise ModelError("network", "the weights are those of another network", "Build the version anew.")
    with torch.no_grad():
        for name, value in mine.items():
            value.copy_(weights[name])


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The module that `make` builds, its weights a function of the seed; the global generator is left as found."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def outputs(signature: Signature) -> int:
    """How many numbers a network gives for a row: one a class, or one value."""
    return len(signature.classes) if signature.task == "classify" else 1


def activation(name: str) -> nn.Module:
    """A new activation module by its name."""
    known = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "hardswish": nn.Hardswish}
    return known[name]()
