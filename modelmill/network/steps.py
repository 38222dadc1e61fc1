"""Modules that compute as integers would, and learn the steps between their numbers: rounded activations and weights.

Steps are learned as logarithms, so that an optimizer that moves all parameters by about as much moves them by a share.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn


class Rounded(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Activations rounded to whole multiples of a learned step, from `low` to `high` of them.

    The numbers that share the step are those of one row: how fast it learns does not hang on the size of a batch.

    Esser et al. (2020), https://arxiv.org/abs/1902.08153, equations 1 to 3
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.signed, self.live = bits, False, True
        self.log_step = nn.Parameter(torch.zeros(()))

    @property
    def low(self) -> int:
        """The smallest number of steps."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest number of steps."""
        return int(2 ** (self.bits - self.signed)) - 1

    @property
    def step(self) -> float:
        """The step as it is now."""
        return float(self.log_step.detach().exp())

    def start(self, step: float, signed: bool) -> None:
        """Begin with that step."""
        self.signed = signed
        with torch.no_grad():
            self.log_step.fill_(math.log(step))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) to the same shape; as it came while not `live`."""
        return rounded(x, self.log_step.exp(), self.low, self.high, math.prod(x.shape[1:])) if self.live else x


class Capped(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Activations cut at a learned ceiling, then rounded to the steps that so many bits have below it.

    Choi et al. (2018), https://arxiv.org/abs/1805.06085, equations 1 to 3
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.signed, self.live = bits, False, True
        self.log_ceiling = nn.Parameter(torch.zeros(()))

    @property
    def low(self) -> int:
        """The smallest number of steps."""
        return -self.high - 1 if self.signed else 0

    @property
    def high(self) -> int:
        """The largest number of steps."""
        return int(2 ** (self.bits - self.signed)) - 1

    @property
    def step(self) -> float:
        """The step as it is now."""
        return float(self.log_ceiling.detach().exp()) / self.high

    def start(self, step: float, signed: bool) -> None:
        """Begin with that step."""
        self.signed = signed
        with torch.no_grad():
            self.log_ceiling.fill_(math.log(step * self.high))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; as it came while not `live`. Only what lies above the ceiling teaches it."""
        if not self.live:
            return x
        ceiling = self.log_ceiling.exp()
        step = ceiling.detach() / self.high
        kept = torch.minimum(torch.maximum(x, ceiling * (self.low / self.high)), ceiling)
        return kept + ((kept / step).round() * step - kept).detach()


class Stepped(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A linear or convolutional layer whose weights are rounded, with one step for each output channel.

    learned: whether the steps are; else they follow the largest weight of the channel.
    """

    def __init__(self, layer: nn.Module, bits: int, learned: bool) -> None:
        super().__init__()
        self.layer, self.bits, self.learned = layer, bits, learned
        self.low, self.high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        if learned:
            self.log_steps = nn.Parameter(torch.zeros(len(cast(Tensor, layer.weight))))

    @property
    def steps(self) -> Tensor:
        """The step of every channel, (channels,)."""
        if self.learned:
            return self.log_steps.exp()
        largest = self.layer.weight.detach().flatten(1).abs().amax(1) / self.high
        return largest.clamp_min(largest.max() * 1e-4 + 1e-12)

    def start(self, steps: Tensor) -> None:
        """Begin with those steps, (channels,)."""
        if self.learned:
            with torch.no_grad():
                self.log_steps.copy_(steps.log())

    def codes(self) -> Tensor:
        """The weights in whole steps, of their shape."""
        with torch.no_grad():
            weight = self.layer.weight
            return (weight / _spread(self.steps, weight)).round().clamp(self.low, self.high)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer."""
        layer = self.layer
        steps = _spread(self.steps, layer.weight)
        weight = rounded(layer.weight, steps, self.low, self.high, layer.weight[0].numel())
        if isinstance(layer, nn.Linear):
            return nn.functional.linear(x, weight, layer.bias)
        return cast(Tensor, layer._conv_forward(x, weight, layer.bias))


def rounded(x: Tensor, step: Tensor, low: int, high: int, count: int) -> Tensor:
    """The nearest multiples of the step; the gradients of both are those of LSQ.

    Within the bounds that of the step is `round(x / step) - x / step`, beyond them the bound; both are made smaller by
    the root of `count`, how many numbers share the step, times `high`. Those are weights, or the features of a row
    (Esser et al., section 2.2).
    """
    share = 1 / math.sqrt(max(count, 1) * max(high, 1))
    step = (step - step * share).detach() + step * share
    kept = (x / step).clamp(low, high)
    return (kept + (kept.round() - kept).detach()) * step


def _spread(steps: Tensor, weight: Tensor) -> Tensor:
    return steps.view(-1, *[1] * (weight.ndim - 1))
