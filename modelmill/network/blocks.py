"""Our own network modules, and how their weights start; imported only where torch is at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

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
    return {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}[name]()
