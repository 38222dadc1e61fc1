"""Which networks are averaged, and their average."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelmill.contracts import Judge, Task
from modelmill.dataset import Dataset
from modelmill.model import Model
from modelmill.train.average import refresh, tensors
from modelmill.train.rows import rows, some

SEEN = 4096
"""Training rows on which batch norms settle."""


@dataclass(frozen=True, eq=False)
class Soup:
    """Networks that were averaged."""

    module: Any
    count: int
    """How many are in it."""
    untouched: bool
    """Whether it is the first of them alone."""
    told: str
    """What that did to the quality, in words; empty where there were no rows to judge by."""


def greedy(found: Sequence[Model], judge: Judge, settle: Callable[[nn.Module], None]) -> Soup:
    """The average of the best one and of all that do not make it worse, tried from the best to the worst."""
    qualities = [judge(one) for one in found]
    if all(math.isnan(quality) for quality in qualities):
        return Soup(mean([one.body.value for one in found], settle), len(found), False, "")
    order = sorted(range(len(found)), key=lambda place: -_number(qualities[place]))
    chosen, best = order[:1], qualities[order[0]]
    for place in order[1:]:
        module = mean([found[i].body.value for i in (*chosen, place)], settle)
        quality = judge(found[0].with_body(module, "network", ""))
        if quality >= best:
            chosen, best = [*chosen, place], quality
    module = mean([found[i].body.value for i in chosen], settle)
    told = f": {best:.4f} on validation rows, the best alone {qualities[order[0]]:.4f}"
    return Soup(module, len(chosen), chosen == [0], told)


def _number(quality: float) -> float:
    return -math.inf if math.isnan(quality) else quality


def mean(modules: Sequence[nn.Module], settle: Callable[[nn.Module], None]) -> nn.Module:
    """A network with the mean weights of several; what is no float is that of the first. One is given as it is."""
    average = copy.deepcopy(modules[0])
    if len(modules) == 1:
        return average
    others = [tensors(module) for module in modules[1:]]
    with torch.no_grad():
        for name, value in tensors(average).items():
            if value.is_floating_point():
                value.copy_(torch.stack([value, *(other[name] for other in others)]).mean(0))
    settle(average)
    return average


def settling(model: Model, train: Dataset, task: Task) -> Callable[[nn.Module], None]:
    """What gives the batch norms of a network the statistics of training rows."""
    features = some(rows(model, train, task), SEEN).features
    return lambda module: refresh(module, features)
