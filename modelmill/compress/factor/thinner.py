"""Torch layers made of the factors of others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from modelmill.compress.factor.decompositions import Array, halves, lost, tucker
from modelmill.compress.factor.layers import Factored


def is_matrix(layer: nn.Module) -> bool:
    """Whether a layer is a linear map of every row, pixel or step by itself."""
    if type(layer) is nn.Linear:
        return True
    return is_kernel(layer) and all(k == 1 for k in layer.kernel_size) and not any(map(_number, layer.padding))


def is_kernel(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that mixes all channels."""
    return type(layer) in (nn.Conv1d, nn.Conv2d) and layer.groups == 1


def _number(padding: int | str) -> int:
    """A padding as a number; those with a name are none for a kernel of 1."""
    return padding if isinstance(padding, int) else 0


def matrix(layer: Any) -> Array:
    """The weight of a linear map: (outputs, inputs) float64."""
    return np.asarray(layer.weight.detach().flatten(1).double().numpy())


def kernel(layer: Any) -> Array:
    """The weight of a convolution: (outputs, inputs, places) float64."""
    return np.asarray(layer.weight.detach().flatten(2).double().numpy())


def two(layer: Any, weight: Array, count: int) -> Factored:
    """Two thinner layers in place of a linear map."""
    left, right = halves(weight, count)
    outputs, inputs = weight.shape
    if isinstance(layer, nn.Linear):
        first: nn.Module = nn.Linear(inputs, count, bias=False)
        second: nn.Module = nn.Linear(count, outputs, bias=layer.bias is not None)
    else:
        first = type(layer)(inputs, count, 1, stride=layer.stride, bias=False)
        second = type(layer)(count, outputs, 1, bias=layer.bias is not None)
    _fill(first, right)
    _fill(second, left, layer.bias)
    said = f"{outputs}x{inputs} to rank {count} ({lost(weight, left @ right):.1%} of its squares lost)"
    return Factored(nn.Sequential(first, second), said)


def cost(layer: Any, ranks: Sequence[int]) -> tuple[int, int]:
    """Weights, and products for one pixel that comes out, of a convolution whose kernel has those ranks."""
    outputs, inputs = layer.weight.shape[:2]
    given = inputs * ranks[1] if ranks[1] < inputs else 0
    rest = ranks[0] * ranks[1] * math.prod(layer.kernel_size) + (ranks[0] * outputs if ranks[0] < outputs else 0)
    return given + rest, given * math.prod(layer.stride) + rest


def three(layer: Any, ranks: Sequence[int]) -> Factored:
    """A 1x1 convolution to fewer channels, the core, and a 1x1 convolution from fewer, in place of a convolution.

    Where a rank is full, the 1x1 convolution on that side is left out.
    """
    weight = kernel(layer)
    core, left, right = tucker(weight, ranks)
    kind, (outputs, inputs) = type(layer), weight.shape[:2]
    parts: list[nn.Module] = []
    if ranks[1] < inputs:
        parts.append(_fill(kind(inputs, ranks[1], 1, bias=False), right.T))
    settings = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    last = ranks[0] == outputs
    middle = kind(ranks[1], ranks[0], layer.kernel_size, **settings, padding_mode=layer.padding_mode, bias=False)
    if last and layer.bias is not None:
        middle.bias = nn.Parameter(layer.bias.detach().clone())
    parts.append(_fill(middle, core))
    if not last:
        parts.append(_fill(kind(ranks[0], outputs, 1, bias=layer.bias is not None), left, layer.bias))
    nearly = np.einsum("abk,oa,ib->oik", core, left, right, optimize=True)
    shape = "x".join(map(str, layer.weight.shape))
    said = f"{shape} to ranks {ranks[0]} and {ranks[1]} ({lost(weight, nearly):.1%} of its squares lost)"
    return Factored(nn.Sequential(*parts), said)


def _fill(layer: Any, weight: Array, bias: torch.Tensor | None = None) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)).view(layer.weight.shape))
        if bias is not None:
            layer.bias.copy_(bias)
    made: nn.Module = layer
    return made
