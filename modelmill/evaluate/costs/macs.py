"""How many multiply-adds a row takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, ClassVar

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset
from modelmill.evaluate.costs.timing import batch
from modelmill.graph.shapes import inferred

Shape = tuple[int, ...]
"""Sizes of the axes; 0 where an axis is not known."""


class Macs(Cost):
    """Multiply-adds of one row, counted by walking the graph; sizes that it leaves open are those of the first row.

    Matrix products and convolutions count, in float and in every quantized form; element-wise operations do not.
    Trees multiply nothing and count 0.
    """

    gives: ClassVar[tuple[str, ...]] = ("macs",)

    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Multiply-adds of a row, for every model."""
        row = batch(data, [field.name for field in data.fields], 0, 1) if data.rows else {}
        shapes = {name: values.shape for name, values in row.items()}
        return [{"macs": float(count(model, shapes))} for model in models]


def count(model: bytes, shapes: Mapping[str, Shape] | None = None) -> int:
    """Multiply-adds of one row of an ONNX file; `shapes` are those of its inputs, where they are known."""
    import onnx

    loaded = onnx.load_from_string(model)
    _one_row(loaded.graph, shapes or {})
    _told(loaded.graph)
    return _total(inferred(loaded).graph)


def _total(graph: Any, around: Shapes | None = None) -> int:
    """Multiply-adds of a graph; where it forks, those of the dearest branch."""
    shapes = Shapes(graph, around)
    plain = sum(_COUNTS[node.op_type](node, shapes) for node in graph.node if node.op_type in _COUNTS)
    forks = [node for node in graph.node if node.op_type == "If"]
    return plain + sum(max(_total(attribute.g, shapes) for attribute in fork.attribute) for fork in forks)


def _one_row(graph: Any, shapes: Mapping[str, Shape]) -> None:
    """Fix all inputs to one row, and forget the shapes that were inferred for other batches."""
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
        if dims and not dims[0].dim_value > 0:
            dims[0].dim_value = 1
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def _told(graph: Any) -> None:
    """Let shape inference see an LSTM in integers, which ONNX does not know, as the one that it stands for."""
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLSTM":
            node.op_type, node.domain = "LSTM", ""
            del node.input[3:]


class Shapes:
    """The shape of every value of a graph, as far as it can be known; holds the graph's look-up tables.

    A branch sees what lies around it.
    """

    def __init__(self, graph: Any, around: Shapes | None = None) -> None:
        self._makers: dict[str, Any] = dict(around._makers) if around else {}
        self._makers |= {name: node for node in graph.node for name in node.output}
        self._known: dict[str, Shape] = dict(around._known) if around else {}
        self._known |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            if kind.HasField("shape"):
                self._known.setdefault(value.name, tuple(max(dim.dim_value, 0) for dim in kind.shape.dim))

    def of(self, name: str) -> Shape:
        """The shape of a value; () where nothing is known of it. Operations that keep shapes are looked through."""
        while name not in self._known:
            node = self._makers.get(name)
            if node is None or node.op_type not in _KEEP or not node.input:
                return ()
            name = node.input[0]
        return self._known[name]


_KEEP = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "BatchNormalization", "Cast", "Identity", "Dropout"}
    | {"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "Gelu", "Softmax", "Scaler", "Imputer", "Normalizer"}
)


def _attributes(node: Any) -> Mapping[str, int]:
    return {attribute.name: attribute.i for attribute in node.attribute}


def _matmul(node: Any, shapes: Shapes, right_at: int = 1) -> int:
    left, right = shapes.of(node.input[0]), shapes.of(node.input[right_at])
    if len(right) < 2:
        # A vector on the right: one product of lengths for every row on the left.
        return prod(_known(left)) if right else 0
    inner, columns = right[-2], right[-1]
    rows = prod(_known(left[:-1]))
    stacks = prod(_known(right[:-2])) if len(left) <= 2 else 1
    return rows * (inner or 1) * (columns or 1) * stacks


def _gemm(node: Any, shapes: Shapes, right_at: int = 1) -> int:
    left, right = shapes.of(node.input[0]), shapes.of(node.input[right_at])
    axis = 1 if _attributes(node).get("transA") else 0
    rows = left[axis] if len(left) == 2 else 1
    return (rows or 1) * prod(_known(right)) if right else 0


def _conv(node: Any, shapes: Shapes, weight_at: int = 1) -> int:
    """Every output element takes one multiply-add for each weight of its filter."""
    weight, output = shapes.of(node.input[weight_at]), shapes.of(node.output[0])
    if not weight:
        return 0
    filters, per_filter = weight[0], prod(_known(weight[1:]))
    return prod(_known(output[2:])) * filters * per_filter


def _conv_transpose(node: Any, shapes: Shapes) -> int:
    weight, image = shapes.of(node.input[1]), shapes.of(node.input[0])
    return prod(_known(image[2:])) * prod(_known(weight)) if weight else 0


def _blocks(node: Any, shapes: Shapes) -> int:
    attributes = _attributes(node)
    rows = prod(_known(shapes.of(node.input[0])[:-1]))
    return rows * attributes.get("K", 0) * attributes.get("N", 0)


def _recurrent(node: Any, shapes: Shapes) -> int:
    """Every step multiplies with all weights of its input and of its state."""
    steps = (shapes.of(node.input[0]) or (1,))[0] or 1
    return steps * sum(prod(_known(shapes.of(node.input[i]))) for i in (1, 2))


def _coefficients(node: Any, shapes: Shapes) -> int:
    """The linear models of ai.onnx.ml keep their matrix as an attribute."""
    return sum(len(attribute.floats) for attribute in node.attribute if attribute.name == "coefficients")


def _known(shape: Shape) -> Shape:
    """The shape with unknown axes taken as 1."""
    return tuple(size or 1 for size in shape)


_COUNTS: dict[str, Callable[[Any, Shapes], int]] = {
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "MatMulInteger": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "QLinearMatMul": lambda node, shapes: _matmul(node, shapes, 3),
    "MatMulNBits": _blocks,
    "Gemm": _gemm,
    "QGemm": lambda node, shapes: _gemm(node, shapes, 3),
    "Conv": _conv,
    "FusedConv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": lambda node, shapes: _conv(node, shapes, 3),
    "ConvTranspose": _conv_transpose,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "LinearClassifier": _coefficients,
    "LinearRegressor": _coefficients,
}
"""How the multiply-adds of an operation are counted, by its type."""
