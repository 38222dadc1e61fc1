"""The ONNX files that servers are compared on, the same bytes for all, with random weights.

tiny: an MLP 4-64-3. small: a CNN on 32 x 32 pixels that takes a millisecond or two on slow cores and a quarter of one
on fast cores. double: one with twice the channels. medium: as large as a ResNet-50, on 224 x 224 pixels. wide: an MLP
of large matrices, where batches pay. Each has one input `x` and one output `y`, both FP32 with the rows first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

SHAPES: dict[str, tuple[int, ...]] = {
    "tiny": (4,),
    "small": (3, 32, 32),
    "double": (3, 32, 32),
    "medium": (3, 224, 224),
    "wide": (768,),
}


class Graph:
    """Nodes and weights that grow."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.nodes: list[object] = []
        self.weights: list[object] = []

    def op(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        values = self.draw.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, inner: int, outer: int, kernel: int, stride: int = 1, relu: bool = True) -> str:
        pads = [kernel // 2] * 4
        weights = [self.weight(outer, inner, kernel, kernel), self.weight(outer)]
        x = self.op("Conv", [x, *weights], pads=pads, strides=[stride, stride], kernel_shape=[kernel, kernel])
        return self.op("Relu", [x]) if relu else x

    def dense(self, x: str, inner: int, outer: int) -> str:
        return self.op("Gemm", [x, self.weight(outer, inner), self.weight(outer)], transB=1)


def tiny(g: Graph) -> tuple[str, int]:
    return g.op("Softmax", [g.dense(g.op("Relu", [g.dense("x", 4, 64)]), 64, 3)], axis=1), 3


def small(g: Graph, times: int = 1) -> tuple[str, int]:
    x, inner = "x", 3
    for outer, stride in ((32 * times, 1), (32 * times, 1), (64 * times, 2), (64 * times, 1), (128 * times, 2)):
        x, inner = g.conv(x, inner, outer, 3, stride), outer
    x = g.op("Flatten", [g.op("GlobalAveragePool", [x])])
    return g.op("Softmax", [g.dense(x, inner, 10)], axis=1), 10


def double(g: Graph) -> tuple[str, int]:
    return small(g, 2)


def resnet(g: Graph, *blocks: int) -> str:
    """Stages of so many bottlenecks (He et al., 2015), without norms, which are folded when served: 1,000 scores."""
    x = g.op("MaxPool", [g.conv("x", 3, 64, 7, 2)], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inner = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            step = 2 if stage and block == 0 else 1
            left = g.conv(g.conv(x, inner, width, 1), width, width, 3, step)
            left = g.conv(left, width, 4 * width, 1, relu=False)
            past = g.conv(x, inner, 4 * width, 1, step, relu=False) if block == 0 else x
            x, inner = g.op("Relu", [g.op("Add", [left, past])]), 4 * width
    return g.dense(g.op("Flatten", [g.op("GlobalAveragePool", [x])]), inner, 1000)


def medium(g: Graph) -> tuple[str, int]:
    """ResNet-50."""
    return g.op("Softmax", [resnet(g, 3, 4, 6, 3)], axis=1), 1000


def wide(g: Graph) -> tuple[str, int]:
    """An MLP of 12 layers of 1024: one row reads as many weights as sixty-four do, so that batches save much."""
    x, inner = "x", 768
    for _ in range(12):
        x, inner = g.op("Relu", [g.dense(x, inner, 1024)]), 1024
    return g.op("Softmax", [g.dense(x, inner, 10)], axis=1), 10


def write(name: str, path: Path) -> None:
    """Write a model's file."""
    g = Graph(0)
    made = {"tiny": tiny, "small": small, "double": double, "medium": medium, "wide": wide}
    last, classes = made[name](g)
    g.nodes.append(helper.make_node("Identity", [last], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *SHAPES[name]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", classes])
    graph = helper.make_graph(g.nodes, name, [x], [y], g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, str(path))


def sample(name: str) -> np.ndarray:
    """One row that requests hold."""
    return np.random.default_rng(1).normal(size=(1, *SHAPES[name])).astype(np.float32)
