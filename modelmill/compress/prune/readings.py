"""What the layers read that take the channels of a group: where the worth of a channel shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.model import Model
from modelmill.network.slicing import Channels
from modelmill.train.rows import Rows, rows, some

CHUNK = 256
"""Rows of one pass."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What one layer read in one pass."""

    taker: nn.Module
    value: Tensor
    """As the layer had it: a copy of its own, so that its gradient is that of this reading alone."""
    width: int

    def by_channel(self, like: Tensor | None = None) -> Tensor:
        """The value, or one of its shape, as (batch, channels, positions)."""
        value = self.value if like is None else like
        if isinstance(self.taker, nn.Linear):
            return value.unflatten(-1, (self.width, -1)).movedim(-2, 1).flatten(2)
        return value.flatten(2)


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of some rows through the network."""

    raw: Tensor
    """(batch, outputs)"""
    readings: list[list[Reading]]
    """For every group, what its takers read."""
    rows: slice
    """Which rows it saw."""


def sample(model: Model, data: Splits, task: Task, most: int) -> Rows:
    """At most so many training rows, as the network learns them."""
    return some(rows(model, data.train, task), most)


def passes(network: nn.Module, groups: Sequence[Channels], features: Tensor) -> Iterator[Pass]:
    """Send the rows through the network, some at a time, and hear what the takers of every group read."""
    heard: list[list[Reading]] = [[] for _ in groups]
    hooks = [
        taker.register_forward_pre_hook(_listener(heard[place], group.width))
        for place, group in enumerate(groups)
        for taker in group.takers
    ]
    try:
        for first in range(0, len(features), CHUNK):
            for readings in heard:
                readings.clear()
            raw = network(features[first : first + CHUNK])
            yield Pass(raw, [list(readings) for readings in heard], slice(first, first + len(raw)))
    finally:
        for hook in hooks:
            hook.remove()


def _listener(heard: list[Reading], width: int) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def listen(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        value = given[0].clone()
        heard.append(Reading(module, value, width))
        return (value, *given[1:])

    return listen


def averages(
    network: nn.Module, groups: Sequence[Channels], features: Tensor, measure: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """For every group the mean of a measure over its readings and their positions: (rows, width) float64."""
    found: list[list[Tensor]] = [[] for _ in groups]
    with torch.no_grad():
        for one in passes(network, groups, features):
            for place, readings in enumerate(one.readings):
                parts = [measure(reading.by_channel()).double().mean(2) for reading in readings]
                found[place].append(torch.stack(parts).mean(0))
    return [torch.cat(parts) for parts in found]


def effects(
    network: nn.Module, groups: Sequence[Channels], features: Tensor, output: Callable[[Tensor, slice], Tensor]
) -> list[Tensor]:
    """For every group, how much `output` of a row changes, to first order, when a channel goes: (rows, width) float64.

    output: of raw (batch, outputs) and the rows it stands for, one number a row.
    """
    found: list[list[Tensor]] = [[] for _ in groups]
    with torch.enable_grad():
        for one in passes(network, groups, features):
            every = [reading for readings in one.readings for reading in readings]
            gradients = iter(torch.autograd.grad(output(one.raw, one.rows).sum(), [r.value for r in every]))
            for place, readings in enumerate(one.readings):
                parts = [r.by_channel((r.value * next(gradients)).detach()).double().sum(2) for r in readings]
                found[place].append(torch.stack(parts).sum(0))
    return [torch.cat(parts) for parts in found]
