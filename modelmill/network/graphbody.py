"""The torch modules of cells: what every operation is for each kind of features, and nodes joined as a wiring says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from modelmill.network.blocks import activation
from modelmill.network.recurrent import Recurrent
from modelmill.network.wiring import Wiring

CONV = {"image": nn.Conv2d, "sequence": nn.Conv1d}
NORM = {"table": nn.BatchNorm1d, "image": nn.BatchNorm2d, "sequence": nn.BatchNorm1d}
MAX = {"image": nn.MaxPool2d, "sequence": nn.MaxPool1d}
AVERAGE = {"image": nn.AvgPool2d, "sequence": nn.AvgPool1d}


class Graph(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Nodes, each on the sum of what it reads, in an order in which nothing is read before it is made.

    nodes: one module a node; all give the shape that they are given. reads: for every node, and last for the output,
    the values that are added: 0 is what comes in, i what node i gives. mix: brings the values that the output reads,
    side by side, back to the width of one; None adds them.
    """

    def __init__(
        self, nodes: Sequence[nn.Module], reads: Sequence[Sequence[int]], mix: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(nodes)
        self.reads = tuple(tuple(row) for row in reads)
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, ...) to the same shape."""
        values = [x]
        for node, row in zip(self.nodes, self.reads[:-1], strict=True):
            values.append(node(_sum([values[i] for i in row])))
        found = [values[i] for i in self.reads[-1]]
        return _sum(found) if self.mix is None else cast(Tensor, self.mix(torch.cat(found, 1)))


def _sum(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def graph(wiring: Wiring, kind: str, width: int, join: str) -> Graph:
    """An untrained cell of that width, its wiring repaired."""
    nodes = [operation(name, kind, width) for name in wiring.operations]
    last = wiring.reads[-1]
    if join == "add" or len(last) == 1:
        return Graph(nodes, wiring.reads)
    given = len(last) * width
    mix = linear(given, width) if kind == "table" else convolution(kind, given, width, 1)
    return Graph(nodes, wiring.reads, nn.Sequential(*mix))


def operation(name: str, kind: str, width: int) -> nn.Module:
    """What a node does, from `width` channels to as many of the same size."""
    if kind == "table":
        return nn.Sequential(*linear(width, width, name))
    if name == "gru":
        return Recurrent(width, width)
    if name == "max":
        return MAX[kind](3, stride=1, padding=1)
    if name == "average":
        return AVERAGE[kind](3, stride=1, padding=1, count_include_pad=False)
    stem, size = name[:-1], int(name[-1])
    dilation = 2 if stem == "dilated" else 1
    if stem == "separable":
        deep = CONV[kind](width, width, size, padding=size // 2, groups=width, bias=False)
        return nn.Sequential(deep, *convolution(kind, width, width, 1))
    return nn.Sequential(*convolution(kind, width, width, size, dilation=dilation))


def plain(kind: str, given: int, made: int, stride: int = 1) -> list[nn.Module]:
    """What brings features to another width, and makes images smaller: a convolution of 3, or a linear map."""
    return linear(given, made) if kind == "table" else convolution(kind, given, made, 3, stride)


def linear(given: int, made: int, function: str = "relu") -> list[nn.Module]:
    """A linear map, its norm and an activation."""
    return [nn.Linear(given, made, bias=False), nn.BatchNorm1d(made), activation(function)]


def convolution(kind: str, given: int, made: int, size: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    """A convolution, its norm and a ReLU; a stride of s leaves ceil(size / s) pixels."""
    padding = dilation * (size // 2)
    conv = CONV[kind](given, made, size, stride=stride, padding=padding, dilation=dilation, bias=False)
    return [conv, NORM[kind](made), nn.ReLU()]
