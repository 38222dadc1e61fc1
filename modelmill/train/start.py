"""Where the training of a trained network starts: with which last layer, and in which unit."""

from __future__ import annotations

import copy
from typing import Any

import torch

from modelmill.contracts import Task
from modelmill.dataset import Dataset
from modelmill.model import Model
from modelmill.train.answer import forward
from modelmill.train.rows import Unit, head, rows, some, standardized, unfold, unit

LOOKED_AT = 1024
"""Training rows by which a network shows in what unit it answers."""


def with_head(model: Model, task: Task, renew: bool, seed: int) -> Model:
    """The model with as many outputs as its signature asks for: a last layer of another width starts anew.

    renew: start it anew in any case. The model that is given is left as found. A network without a linear layer is
    taken to fit; to renew its head is refused with a ModelError.
    """
    from modelmill.arch.trained import renew_head
    from modelmill.network.blocks import seeded

    module = copy.deepcopy(model.body.value)
    before = _last(module)
    if before is None and not renew:
        return model
    renew_head(module, task.width(model.signature.classes), seed)
    layer = _last(module)
    if renew and layer is before:
        seeded(layer.reset_parameters, seed)
    fresh = renew or layer is not before
    return model.with_body(module, "network", "a new last layer") if fresh else model


def _last(module: torch.nn.Module) -> Any:
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    return layers[-1] if layers else None


def knows_unit(model: Model, train: Dataset, task: Task) -> bool:
    """Whether a network answers in the unit of the data already, rather than in that in which it will learn.

    A trained one does; where its head is new, its answers are nearer to targets of mean 0 and deviation 1.
    """
    part = some(rows(model, train, task), LOOKED_AT)
    by = unit(part, bool(model.signature.classes) or head(model.body.value) is None)
    if by == Unit():
        return True
    told = standardized(part, by)
    module = copy.deepcopy(model.body.value)
    as_it_is = float(task.loss(forward(module, told.features), told.encoded, None, 0.0))
    unfold(module, by)
    unfolded = float(task.loss(forward(module, told.features), told.encoded, None, 0.0))
    return unfolded <= as_it_is
