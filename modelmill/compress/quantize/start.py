"""Where learned grids start: the steps whose rounding is off least, on weights and on sample activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from modelmill.compress.quantize.insert import Grid, grids, stepped
from modelmill.train.answer import forward

M = TypeVar("M", bound=nn.Module)

SHARES = torch.linspace(0.3, 1.0, 29)
"""Ends of a grid that are tried, in units of the largest number."""
MOST = 250_000
"""Numbers that are rounded at once: several arrays of that size are held."""
SAMPLE = 8192
"""Numbers of an activation that are looked at."""


def begin(network: nn.Module, features: Tensor) -> None:
    """Set the steps of all weights, and those of activations by what the features make of them in floats."""
    weigh(network)
    found = grids(network)
    seen = _seen(network, features)
    for grid in found:
        numbers = seen[grid]
        signed = bool(numbers.min() < 0)
        grid.signed = signed
        grid.start(float(best(numbers[None], grid.low, grid.high)), signed)


def weigh(network: nn.Module) -> None:
    """Set the steps of all weights."""
    for layer in stepped(network):
        layer.start(best(layer.layer.weight.detach().flatten(1), layer.low, layer.high))


def best(numbers: Tensor, low: int, high: int) -> Tensor:
    """For every row of (rows, numbers) the step whose rounding has the smallest squared error.

    >>> round(float(best(torch.tensor([[-4.0, -1.0, 2.0, 3.0]]), -4, 3)), 3)
    1.0
    """
    largest = torch.maximum(numbers.amax(1) / max(high, 1), -numbers.amin(1) / max(-low, 1))
    largest = largest.clamp_min(largest.max() * 1e-4).clamp_min(1e-8)
    rows = max(1, MOST // numbers.shape[1])
    return torch.cat([_best(*part, low, high) for part in zip(numbers.split(rows), largest.split(rows), strict=True)])


def _best(numbers: Tensor, largest: Tensor, low: int, high: int) -> Tensor:
    """The same for some of the rows, whose largest steps are known."""
    steps, errors = [], []
    for share in SHARES:
        step = largest * share
        off = (numbers / step[:, None]).round().clamp(low, high) * step[:, None] - numbers
        steps.append(step)
        errors.append(off.pow(2).mean(1))
    chosen = torch.stack(errors).argmin(0)
    return torch.stack(steps).gather(0, chosen[None])[0]


def _seen(network: nn.Module, features: Tensor) -> dict[Grid, Tensor]:
    """What comes to every grid, some of the numbers, while all are open."""
    found = grids(network)
    for grid in found:
        grid.live = False
    seen = sampled(network, found, features)
    for grid in found:
        grid.live = True
    return seen


def sampled(network: nn.Module, modules: Sequence[M], features: Tensor) -> dict[M, Tensor]:
    """Some of the numbers that come to modules of a network, and the ends, when it is given the features."""
    seen: dict[M, list[Tensor]] = {module: [] for module in modules}
    hooks = [module.register_forward_pre_hook(_watch(seen[module])) for module in modules]
    forward(network, features)
    for hook in hooks:
        hook.remove()
    return {module: _some(torch.cat(parts)) for module, parts in seen.items()}


def _watch(found: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor]], None]:
    return lambda module, given: found.append(_some(given[0].detach().flatten()))


def _some(numbers: Tensor) -> Tensor:
    """Some of the numbers, evenly taken, and the ends."""
    chosen = numbers[:: max(1, len(numbers) // SAMPLE)]
    return torch.cat([chosen, numbers.min()[None], numbers.max()[None]])
