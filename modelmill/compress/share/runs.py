"""Runs of weights that a layer shares: how long they are, which its answers ask for, and their codes in a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelmill.compress.quantize.insert import WEIGHTED
from modelmill.compress.quantize.stored import INT32, expanded
from modelmill.compress.quantize.stored import coded as stored
from modelmill.compress.share.clusters import clustered
from modelmill.compress.share.looked import Looked
from modelmill.contracts import Array

PIXELS = 4096
"""Inputs of a layer, rows or pieces of images, that its metric is made of."""


def length_of(shape: Sequence[int], most: int) -> int:
    """How long the runs of a weight are: as long as can be, whole parts of a kernel, or of a row; 1 where none fit.

    >>> length_of((64, 100), 8), length_of((64, 3, 3, 3), 8), length_of((5, 7), 4)
    (5, 3, 1)
    """
    found = (_divisor(math.prod(shape[2:]), most), _divisor(math.prod(shape[1:]), most))
    return next((length for length in found if length > 1), 1)


def _divisor(number: int, most: int) -> int:
    return max(length for length in range(1, most + 1) if number % length == 0)


def shared(layer: nn.Module, length: int, count: int, seed: int, metric: Array) -> Looked:
    """The layer with at most so many different runs."""
    vectors = layer.weight.detach().numpy().reshape(-1, length)
    return Looked(layer, *clustered(vectors, count, seed, metric))


def metrics(network: nn.Module, features: Tensor, lengths: dict[nn.Module, int]) -> dict[nn.Module, Array]:
    """For each layer the mean of x'x over the runs x of its inputs: what a change of weights does to its sums."""
    found: dict[nn.Module, Array] = {}

    def listen(layer: nn.Module, given: tuple[Tensor]) -> None:
        runs = _inputs(layer, given[0]).reshape(-1, lengths[layer]).double()
        square = (runs.T @ runs / len(runs)).numpy()
        found[layer] = square + np.eye(len(square)) * (1e-3 * np.trace(square) / len(square) + 1e-12)

    hooks = [layer.register_forward_pre_hook(listen) for layer in lengths]
    try:
        with torch.no_grad():
            network(features)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _inputs(layer: nn.Module, x: Tensor) -> Tensor:
    """What each sum of a layer is made of: (sums, weights of a neuron); some of them, where there are many."""
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        x = x[: max(1, PIXELS // 64)]
        padding = layer.padding if isinstance(layer.padding, tuple) else (0, 0)
        x = (
            nn.functional.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
            .movedim(1, -1)
            .flatten(0, -2)
        )
    elif not isinstance(layer, nn.Linear):
        return torch.eye(layer.weight[0].numel())
    x = x.reshape(-1, x.shape[-1])
    return x[:: max(1, len(x) // PIXELS)]


def shareable(network: nn.Module, most: int, smallest: int) -> dict[nn.Module, int]:
    """The layers that are large enough, and in whose rows runs fit, with the length of their runs."""
    layers = [layer for layer in network.modules() if isinstance(layer, WEIGHTED) and layer.weight.numel() >= smallest]
    lengths = {layer: length_of(tuple(layer.weight.shape), most) for layer in layers}
    return {layer: length for layer, length in lengths.items() if length > 1}


def coded(model: Any, name: str, weight: Array, most: int, count: int, seed: int) -> int:
    """Put runs and codes in the place of a weight; the number of runs."""
    from onnx import helper, numpy_helper

    length = length_of(weight.shape, most)
    table, codes = clustered(weight.reshape(-1, length), count, seed)
    codes = codes.reshape(len(weight), -1)
    tensor = stored(model, f"{name}_codes", codes, len(table))
    book = numpy_helper.from_array(table, f"{name}_book")
    shape = numpy_helper.from_array(np.array(weight.shape, np.int64), f"{name}_shape")
    nodes = [
        helper.make_node("Cast", [tensor.name], [f"{name}_index"], to=INT32),
        helper.make_node("Gather", [book.name, f"{name}_index"], [f"{name}_runs"]),
        helper.make_node("Reshape", [f"{name}_runs", shape.name], [name]),
    ]
    expanded(model, name, [tensor, book, shape], nodes)
    return len(table)
