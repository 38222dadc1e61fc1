"""Which blocks of a network are missed least."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modelmill.contracts import Task
from modelmill.network.slicing import removable, without
from modelmill.train.answer import forward
from modelmill.train.average import refresh
from modelmill.train.rows import Rows


def least_missed(network: nn.Module, count: int, seen: Rows, task: Task) -> set[int]:
    """The blocks that go, by their places among the removable ones: one by one, the loss is kept as small as can be."""
    every = range(len(removable(network)))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    gone: set[int] = set()
    for _ in range(count):
        losses = {place: _loss(network, gone | {place}, seen, task) for place in every if place not in gone}
        gone.add(min(losses, key=lambda place: (losses[place], place)))
    network.load_state_dict(state)
    return gone


def _loss(network: nn.Module, gone: set[int], seen: Rows, task: Task) -> float:
    """The loss without some blocks, the batch norms at home with what is left."""
    smaller = without(network, [place not in gone for place in range(len(removable(network)))])
    refresh(smaller, seen.features)
    found = float(task.loss(forward(smaller, seen.features), seen.encoded, seen.weights, 0.0))
    return found if found == found else torch.inf


def titles(network: nn.Module, places: Sequence[tuple[int, int]]) -> str:
    """Blocks by the numbers of their modules and the kind of the first: "3 (Residual), 5-7 (Linear)"."""
    children = list(network.children()) if not isinstance(network, nn.Sequential) else list(network)
    return ", ".join(
        f"{first if end == first + 1 else f'{first}-{end - 1}'} ({type(children[first]).__name__})"
        for first, end in places
    )
