"""How the inputs of layers go together, as mean products: squares as wide as a layer, so that few are held at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from modelmill.compress.quantize.calibrate import asked
from modelmill.compress.quantize.matrices import turned
from modelmill.compress.quantize.patches import AXES, patches
from modelmill.compress.quantize.weights import Weight, weights
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.graph.apart import saved

LEAST = 500_000
"""Numbers of products that may be held at once, however few weights a model has; a single layer may have more."""
STRIP = 256
"""Rows of products that are added at once."""
MOST = 4096
"""Rows of inputs of a layer that are looked at of a batch."""


class _Layer(NamedTuple):
    """A node, the sizes of its kernel, how many numbers it multiplies for an output, and how many outputs it has."""

    node: Any
    kernel: tuple[int, ...]
    width: int
    outputs: int


class Moments:
    """The mean products of what layers read, (inputs, inputs) float64, worked out when they are asked for."""

    def __init__(self, path: Path, layers: Mapping[str, _Layer], dataset: Dataset, ones: bool, most: int) -> None:
        self._path, self._layers, self._dataset = path, layers, dataset
        self._ones, self._most = int(ones), most
        self._held: dict[str, Array] = {}
        self._room = max(LEAST, sum(layer.width * layer.outputs for layer in layers.values()) // 4)

    def __contains__(self, name: str) -> bool:
        return name in self._layers

    def take(self, name: str) -> Array:
        """The products of a layer's inputs. They are forgotten here, so that the caller may write over them."""
        if name not in self._held:
            self._held = {}
            self._held = self._found(self._group(name))
        return self._held.pop(name).astype(np.float64)

    def _group(self, first: str) -> list[_Layer]:
        """That layer and those that come after it, as many as may be held."""
        names = list(self._layers)
        start, room, found = names.index(first), self._room, list[_Layer]()
        for name in [*names[start:], *names[:start]]:
            room -= self._layers[name].width ** 2
            if found and room < 0:
                break
            found.append(self._layers[name])
        return found

    def _found(self, layers: Sequence[_Layer]) -> dict[str, Array]:
        sizes = {layer.node.name: layer.width + self._ones for layer in layers}
        found = {name: np.zeros((size, size), np.float32) for name, size in sizes.items()}
        batches = 0
        for outputs in asked(self._path, list(dict.fromkeys(layer.node.input[0] for layer in layers)), self._dataset):
            batches += 1
            for layer in layers:
                rows = _inputs(layer, outputs[layer.node.input[0]], self._most)
                rows = np.concatenate([rows, np.ones((len(rows), self._ones), rows.dtype)], 1)
                _add(found[layer.node.name], rows)
        for value in found.values():
            value /= batches
        return found


@contextmanager
def moments(
    model: Any, chosen: Sequence[str], dataset: Dataset, *, ones: bool = False, most: int = MOST
) -> Iterator[Moments]:
    """The mean products of what those nodes read, as the model is now.

    Grouped convolutions, and those over more than two axes, have none.

    ones: whether a 1 that stands for the bias is the last of the inputs.
    """
    given = weights(model, chosen)
    by_name = {node.name: node for node in model.graph.node if node.name in given and not _grouped(node)}
    layers = {name: _layer(node, given[name]) for name, node in by_name.items()}
    layers = {name: layer for name, layer in layers.items() if len(layer.kernel) <= AXES}
    with TemporaryDirectory() as folder:
        names = list(dict.fromkeys(layer.node.input[0] for layer in layers.values()))
        yield Moments(saved(model, names, Path(folder)), layers, dataset, ones, most)


def _layer(node: Any, weight: Weight) -> _Layer:
    outputs = weight.value.shape[weight.axis]
    return _Layer(node, weight.value.shape[2:], weight.value.size // outputs, outputs)


def _add(products: Array, rows: Array) -> None:
    """Add the mean products of some rows, in place, without a second square."""
    scaled = rows / np.float32(len(rows))
    for at in range(0, len(products), STRIP):
        products[at : at + STRIP] += rows[:, at : at + STRIP].T @ scaled


def _inputs(layer: _Layer, value: Array, most: int) -> Array:
    """What a node multiplies with each column of its weight's rows, (rows, inputs): patches of a convolution's."""
    if layer.node.op_type == "Conv":
        places = value[0, 0].size
        found, _ = patches(layer.node, value[:: max(1, len(value) * places // (4 * most))], layer.kernel)
        rows = found.reshape(-1, layer.width)
    elif turned(layer.node):
        rows = value.T
    else:
        rows = value.reshape(-1, value.shape[-1])
    return np.asarray(rows[:: max(1, len(rows) // most)], np.float32)


def _grouped(node: Any) -> bool:
    return any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)
