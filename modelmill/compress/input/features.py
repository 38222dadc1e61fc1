"""Which features a model depends on, and the model with fewer of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.compress.preparing import prepared, reopened
from modelmill.contracts import Arch, Array
from modelmill.errors import ModelError
from modelmill.method import decode
from modelmill.model import Model

if TYPE_CHECKING:
    from torch import nn

CELLS = 2_000_000
"""Features that a body is shown at the most to tell what it depends on."""

ROWS = (64, 1000)
"""Rows that it is shown, at the least and at the most."""


def dependence(model: Model, seen: Array, seed: int) -> Array:
    """(features,) how far answers move, on the average, when a feature is that of another row.

    seen: (rows, features), of which a part is looked at. Breiman (2001), https://doi.org/10.1023/A:1010933404324,
    with the model's own answers in place of the truth.
    """
    rows, width = seen.shape
    draw = np.random.default_rng(seed)
    count = min(rows, int(np.clip(CELLS // width**2, *ROWS)))
    shown = seen[np.sort(draw.choice(rows, count, replace=False))]
    said = _answers(model, shown)
    moved = np.zeros(width)
    for place in range(width):
        other = shown.copy()
        other[:, place] = draw.permutation(other[:, place])
        moved[place] = np.abs(_answers(model, other) - said).mean()
    return moved


def picked(model: Model, places: Array) -> Model:
    """The model whose preparation gives these features alone; its body is left as it was."""
    writer, value = reopened(model.part.prepare)
    fewer = prepared(model, writer, writer.op("Gather", [value, writer.constant(places, np.int64)], {"axis": 1}))
    return replace(fewer, parts=(replace(fewer.part, body=replace(fewer.body, features=(len(places),))),))


def rebuilt(model: Model, shape: tuple[int, ...], seed: int, where: str) -> Any:
    """The model's arch, untrained, for features of another shape; where channels were cut, as wide as it is now.

    Raises ModelError where the body names no arch.
    """
    arch = decode("arch", model.body.arch) if model.body.arch else None
    if not isinstance(arch, Arch):
        raise ModelError(where, "the model's body names no arch to build anew", "Leave this step out.")
    body = arch(model.signature, shape, seed)
    if model.body.kind == "network":
        from modelmill.network.slicing import narrowed, widths

        narrowed(body, widths(model.body.value))
    return body


def copied(old: nn.Module, new: nn.Module, places: Array | None = None) -> bool:
    """Copy the weights of layers whose shapes are equal, in place; whether the last layer is one of them.

    places: (features,) of the old network that the new one sees, whose weights in the first layer go with them. A
    layer is copied as a whole: without the weights that it goes with, a bias means nothing.
    """
    mine, layers = dict(old.state_dict()), dict[str, list[str]]()
    shapes = {name: value.shape for name, value in new.state_dict().items()}
    for name, shape in shapes.items():
        layers.setdefault(name.rpartition(".")[0], []).append(name)
        if places is not None and name in mine and len(shape) == 2 and shape[1] == len(places) < mine[name].shape[1]:
            mine[name] = mine[name][:, places.tolist()]
            places = None  # the first layer alone reads features
    fitting = [layer for layer, names in layers.items() if all(n in mine and mine[n].shape == shapes[n] for n in names)]
    new.load_state_dict({name: mine[name] for layer in fitting for name in layers[layer]}, strict=False)
    return fitting[-1:] == list(layers)[-1:]


def _answers(model: Model, seen: Array) -> Array:
    """(rows, classes) probabilities or (rows, 1) values of a network's or an estimator's body."""
    if model.body.kind == "network":
        import torch

        network = copy.deepcopy(model.body.value).eval()
        with torch.no_grad():
            raw = network(torch.from_numpy(np.ascontiguousarray(seen)))
            found = raw.softmax(1) if model.signature.classes else raw
        return np.asarray(found.reshape(len(seen), -1))
    from modelmill.train.estimate import predictions

    said = predictions(model, seen)
    return np.asarray(said["probabilities" if model.signature.classes else "value"], np.float64).reshape(len(seen), -1)
