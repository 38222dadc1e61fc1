"""Activations cut at bounds: where a network has them, where they start, how they are learned, how they stay."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from modelmill.compress.quantize.start import sampled

OPEN = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Hardswish)
"""Activations without an upper bound."""


class Bounded(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """An activation and its bounds: 0 or, where it gives less than that, minus the ceiling; and the ceiling."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.log_ceiling = nn.Parameter(torch.full((), math.log(1e6)))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; only what lies beyond a bound teaches it."""
        ceiling = self.log_ceiling.exp()
        return torch.maximum(torch.minimum(self.activation(x), ceiling), -ceiling)

    def settled(self) -> nn.Module:
        """The same as torch's own modules."""
        ceiling = float(self.log_ceiling.detach().exp())
        if isinstance(self.activation, nn.ReLU):
            return nn.Hardtanh(0.0, ceiling)
        return nn.Sequential(self.activation, nn.Hardtanh(-ceiling, ceiling))


def opened(network: nn.Module) -> int:
    """How many activations without an upper bound a network has."""
    return sum(isinstance(module, OPEN) for module in network.modules())


def bounded(network: nn.Module) -> nn.Module:
    """A copy of the network in which each of these has bounds, as yet far away."""
    return _replaced(copy.deepcopy(network), OPEN, Bounded)


def begin(network: nn.Module, features: Tensor, percent: float) -> None:
    """Set every ceiling to what so many percent of the sizes of what comes to it are below."""
    for module, numbers in sampled(network, ceilings(network), features).items():
        given = module.activation(numbers).abs()
        given = given[given > 0] if bool((given > 0).any()) else given + 1e-6
        with torch.no_grad():
            module.log_ceiling.fill_(math.log(float(torch.quantile(given, percent / 100)) + 1e-12))


def ceilings(network: nn.Module) -> list[Bounded]:
    """The bounded activations of a network."""
    return [module for module in network.modules() if isinstance(module, Bounded)]


def settled(network: nn.Module) -> nn.Module:
    """The network with bounds that no longer learn; its own modules are used."""
    return _replaced(network, (Bounded,), lambda module: cast(Bounded, module).settled())


def _replaced(network: nn.Module, kinds: tuple[type, ...], make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    if isinstance(network, kinds):
        return make(network)
    for name, child in network.named_children():
        setattr(network, name, _replaced(child, kinds, make))
    return network
