"""The rows of a data set as tensors that fit in memory: features, what is to be learned, and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modelmill.contracts import Task
from modelmill.dataset import Dataset
from modelmill.model import Model

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Rows:
    """Features, encoded targets and weights, row by row."""

    features: torch.Tensor
    encoded: torch.Tensor
    weights: torch.Tensor | None
    targets: Array
    """As the data has them: what metrics compare with."""

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Unit:
    """The unit in which targets are learned: their mean and standard deviation; (0, 1) for classes."""

    mean: float = 0.0
    deviation: float = 1.0


def rows(model: Model, dataset: Dataset, task: Task, balanced: bool = False) -> Rows:
    """The rows of `dataset` as the model's body learns them."""
    from modelmill.runtime.features import features

    assert dataset.target is not None, "a data set that is trained on has a target"
    encoded = task.encode(dataset.target, model.signature.classes)
    weighed = weights(encoded, dataset.weights, balanced and bool(model.signature.classes))
    return Rows(
        features=tensor(features(model.part, model.signature, dataset)),
        encoded=tensor(encoded),
        weights=None if weighed is None else tensor(weighed),
        targets=dataset.target,
    )


def some(part: Rows, most: int) -> Rows:
    """At most so many of the rows, evenly spread."""
    every = slice(None, None, max(1, -(-len(part) // most)))
    weights = None if part.weights is None else part.weights[every]
    return Rows(part.features[every], part.encoded[every], weights, part.targets[every])


def tensor(array: Array) -> torch.Tensor:
    """The array as a tensor; memory is shared where the array may be written to."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def weights(encoded: Array, given: Array | None, balanced: bool) -> Array | None:
    """What each row counts, with mean 1; None where all count the same.

    balanced: rows of a class weigh the less the more of them there are.

    >>> weights(np.array([0, 0, 0, 1, 1, 1, 1, 1, 1]), None, True).tolist()
    [1.5, 1.5, 1.5, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75]
    """
    if given is None and not balanced:
        return None
    total = np.ones(len(encoded)) if given is None else np.asarray(given, np.float64)
    if balanced:
        shares = np.bincount(encoded, weights=total)
        total = total / np.maximum(shares[encoded], 1e-12)
    mean = total.mean() if len(total) else 1.0
    return (total / (mean or 1.0)).astype(np.float32)


def unit(part: Rows, classes: bool) -> Unit:
    """The unit of the targets of the training rows."""
    if classes or not len(part):
        return Unit()
    values = part.encoded.double()
    return Unit(float(values.mean()), float(values.std(unbiased=False)) or 1.0)


def standardized(part: Rows, by: Unit) -> Rows:
    """The same rows with targets in that unit."""
    if by == Unit():
        return part
    encoded = ((part.encoded.double() - by.mean) / by.deviation).to(part.encoded.dtype)
    return Rows(part.features, encoded, part.weights, part.targets)


def head(module: torch.nn.Module) -> torch.nn.Linear | None:
    """The last layer of a network, where it is linear with one output and a bias: it can take in a unit."""
    layers = [layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None]
    last = layers[-1] if layers else None
    fits = isinstance(last, torch.nn.Linear) and last.out_features == 1 and last.bias is not None
    return last if fits else None


def fold(module: torch.nn.Module, by: Unit) -> None:
    """Change the last layer so that a network that answers in the unit answers as the data does."""
    layer = head(module)
    if layer is not None:
        with torch.no_grad():
            layer.weight.mul_(by.deviation)
            layer.bias.mul_(by.deviation).add_(by.mean)


def unfold(module: torch.nn.Module, by: Unit) -> None:
    """Undo `fold`: a network that answers as the data does now answers in the unit."""
    layer = head(module)
    if layer is not None:
        with torch.no_grad():
            layer.bias.sub_(by.mean).div_(by.deviation)
            layer.weight.div_(by.deviation)
