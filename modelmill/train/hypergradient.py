"""How the loss on a third split changes with the settings of a training: hypergradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelmill.augment.chain import augment
from modelmill.contracts import Task
from modelmill.dataset import Dataset, Splits
from modelmill.model import Model
from modelmill.train.recipe import Recipe
from modelmill.train.rows import Rows, rows, standardized
from modelmill.train.training import Training
from modelmill.trial import Progress

SHARE = 0.2
"""The part of the training rows that is kept back for the derivatives."""

ROWS = 1024
"""Training rows that stand for all in products with the Hessian."""

DAMPING = 1e-3
"""What is added to the Hessian's diagonal: directions that the training rows leave open are not followed far."""

STEPS = 20
"""Steps of the conjugate gradients."""

MEMORY = 0.9
"""How much of what an epoch showed of the learning rate counts an epoch later: early ones want any step larger."""

SETTINGS = ("learning_rate", "weight_decay", "smoothing")
"""The settings whose derivatives are found."""


@dataclass(frozen=True, eq=False)
class Third:
    """A training split once more: rows to learn from, and rows to differentiate on."""

    data: Splits
    rows: Dataset


def third(data: Splits, seed: int) -> Third:
    """Keep a share of the training rows back; validation and test rows stay as they are."""
    count = data.train.rows
    back = np.random.default_rng([seed, 3]).random(count) < SHARE
    return Third(replace(data, train=data.train.take(~back)), data.train.take(back))


def differentiated(
    model: Model, split: Third, task: Task, recipe: Recipe, seed: int, wanted: Iterable[str] = SETTINGS
) -> Iterator[Progress]:
    """Train a copy of the model; the values of the last Progress hold `gradient.SETTING` for every wanted setting.

    learning_rate: the slope of the third split's loss along every epoch's step, which is proportional to the rate
    (Baydin et al., 2018, eq. 4, by epochs); its sign counts, its size sees no further than an epoch. weight_decay and
    smoothing: -dL3/dw H^-1 d2L/dw ds at the last weights (Lorraine et al., 2020, eq. 3), by conjugate gradients; right
    where the training has come to rest, and L the loss with coupled decay; where batches are augmented, that of a draw.

    Baydin, Cornish, Rubio, Schmidt, Wood (2018), https://arxiv.org/abs/1703.04782
    """
    training = Training(model, split.data, task, recipe, seed)
    away = standardized(rows(model, split.rows, task), training.unit)
    weights = [weight for weight in training.module.parameters() if weight.requires_grad]
    before = _flat(weights)
    along = 0.0
    for progress in training.run():
        slope = _slope(training.module, away, task, weights)
        along = MEMORY * along + float(slope @ (_flat(weights) - before))
        before = _flat(weights)
        yield progress
    found = {"learning_rate": along / recipe.learning_rate, **_implicit(training, away, task, weights)}
    last = training.finish(f"train.{recipe.optimizer}")
    gradients = {f"gradient.{name}": found[name] for name in wanted if math.isfinite(found[name])}
    yield replace(last, values={**last.values, **gradients})


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _slope(module: torch.nn.Module, on: Rows, task: Task, weights: list[Tensor]) -> Tensor:
    """The derivative of the loss on some rows with respect to all weights, as one vector."""
    module.eval()
    with torch.enable_grad():
        loss = task.loss(module(on.features), on.encoded, on.weights, 0.0)
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)
    return _filled(slopes, weights)


def _filled(slopes: Iterable[Tensor | None], weights: list[Tensor]) -> Tensor:
    parts = [torch.zeros_like(w) if s is None else s for s, w in zip(slopes, weights, strict=True)]
    return torch.cat([part.flatten() for part in parts])


def _implicit(training: Training, away: Rows, task: Task, weights: list[Tensor]) -> dict[str, float]:
    """Derivatives with respect to what stands in the training loss, where it is at its least."""
    module, train, recipe = training.module.eval(), training.train, training.recipe
    some = slice(0, ROWS)
    batch, other, part = augment(training.augmentations, train.features[some], np.random.default_rng(0))
    encoded, counts = train.encoded[some], None if train.weights is None else train.weights[some]
    decays = torch.cat([torch.full((w.numel(),), float(w.ndim > 1)) for w in weights])

    def slope(smoothing: float, graph: bool) -> Tensor:
        raw = module(batch)
        loss = task.loss(raw, encoded, counts, smoothing, recipe.focal)
        if other is not None:
            turned = None if counts is None else counts[other]
            loss = part * loss + (1 - part) * task.loss(raw, encoded[other], turned, smoothing, recipe.focal)
        return _filled(torch.autograd.grad(loss, weights, create_graph=graph, allow_unused=True), weights)

    def curved(vector: Tensor) -> Tensor:
        """The Hessian of the training loss, decay and damping included, times a vector."""
        with torch.enable_grad():
            first = slope(recipe.smoothing, graph=True)
            second = torch.autograd.grad(first @ vector, weights, allow_unused=True)
        return _filled(second, weights) + (recipe.weight_decay * decays + DAMPING) * vector

    solved = _solve(curved, _slope(module, away, task, weights))
    with torch.enable_grad():
        smooth = slope(1.0, graph=False) - slope(0.0, graph=False)
    return {"weight_decay": -float(solved @ (decays * _flat(weights))), "smoothing": -float(solved @ smooth)}


def _solve(times: Any, wanted: Tensor) -> Tensor:
    """x with A x = wanted by conjugate gradients, up to where A curves downwards.

    Hestenes, Stiefel (1952), https://doi.org/10.6028/jres.049.044
    """
    found, left = torch.zeros_like(wanted), wanted.clone()
    way, size = left.clone(), left @ left
    for _ in range(STEPS):
        turned = times(way)
        bend = way @ turned
        if bend <= 0 or size < 1e-12 * (wanted @ wanted):
            break
        found = found + size / bend * way
        left = left - size / bend * turned
        size, old = left @ left, size
        way = left + size / old * way
    return found if float(found.abs().sum()) else wanted
