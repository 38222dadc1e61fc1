"""Works out what a graph need not: operations on constants, shapes that are known, branches that are always taken."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.graph.scopes import graphs, within
from modelmill.graph.shapes import Shape, shapes
from modelmill.runtime.session import Session

SMALL = 1024
"""Bytes of a folded constant that may come of fewer: a larger one is made as the graph says, when it is loaded."""
RANDOM = frozenset({"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"})
STORED = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""What a runtime knows how to compute with, and would not find again."""


def fold(model: Any) -> int:
    """Fold in place, all constants being initializers of the outermost graph; how many operations went."""
    before = sum(len(graph.node) for graph in graphs(model))
    while True:
        found, values = shapes(model), _Constants(model)
        folded = sum(_fold(graph, model, found, values) for graph in graphs(model))
        if not folded and not sum(_inline(graph, values) for graph in graphs(model)):
            return before - sum(len(graph.node) for graph in graphs(model))


class _Constants:
    """The constants of a model as arrays, made when they are asked for; and how often each is read."""

    def __init__(self, model: Any) -> None:
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.readers = Counter(name for graph in graphs(model) for node in graph.node for name in node.input)
        self.readers.update(value.name for graph in graphs(model) for value in graph.output)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> Array:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.tensors[name]))


def _fold(graph: Any, model: Any, found: dict[str, Shape], values: _Constants) -> int:
    """Make constants of the nodes of one graph that can only give one thing."""
    from onnx import numpy_helper

    outputs = {value.name for value in graph.output}
    makers = {name: node for node in graph.node for name in node.output}
    kept: list[Any] = []
    for node in graph.node:
        made = None
        if len(node.output) == 1 and node.output[0] not in outputs and node.domain in ("", "ai.onnx"):
            made = _sizes(node, makers, found, values)
            if made is None and _may(node, found, values):
                made = _evaluated(node, model, values)
        if made is None:
            kept.append(node)
            continue
        tensor = numpy_helper.from_array(made, node.output[0])
        model.graph.initializer.append(tensor)
        values.tensors[tensor.name] = tensor
    gone = len(graph.node) - len(kept)
    if gone:
        del graph.node[:]
        graph.node.extend(kept)
    return gone


def _sizes(node: Any, makers: dict[str, Any], found: dict[str, Shape], values: _Constants) -> Array | None:
    """What a node says of a shape of which that much is known: the shape itself, its length, some of its sizes."""
    given = node if node.op_type == "Shape" else makers.get(node.input[0]) if node.input else None
    if given is None or given.op_type != "Shape":
        return None
    shape = found.get(given.input[0])
    if shape is None or shape.sizes is None:
        return None
    span = {attribute.name: attribute.i for attribute in given.attribute}
    sizes = shape.sizes[span.get("start", 0) : span.get("end", len(shape.sizes))]
    if node.op_type == "Size":
        return np.array(len(sizes), np.int64)
    if node.op_type == "Gather" and node.input[1] in values:
        asked = values[node.input[1]]
        if all(sizes[place] is not None for place in asked.ravel()):
            return np.array([sizes[place] for place in asked.ravel()], np.int64).reshape(asked.shape)
    return np.array(sizes, np.int64) if node is given and None not in sizes else None


def _may(node: Any, found: dict[str, Shape], values: _Constants) -> bool:
    """Whether a node works on constants alone, and gives no more bytes than go when nothing reads those any more."""
    if node.op_type in RANDOM | STORED or not node.input or within(node):
        return False
    given = [name for name in node.input if name]
    made = found.get(node.output[0])
    if made is None or made.numbers is None or not all(name in values for name in given):
        return False
    taken = sum(len(values.tensors[name].raw_data) for name in given if values.readers[name] == 1)
    return made.numbers * 4 <= max(SMALL, taken)


def _evaluated(node: Any, model: Any, values: _Constants) -> Array | None:
    """What the runtime makes of the node; None where it cannot run it alone."""
    import onnx

    inputs = {name: values[name] for name in node.input if name}
    given = [
        onnx.helper.make_tensor_value_info(name, values.tensors[name].data_type, value.shape)
        for name, value in inputs.items()
    ]
    graph = onnx.helper.make_graph([node], "folded", given, [onnx.ValueInfoProto(name=node.output[0])])
    single = onnx.ModelProto(graph=graph, opset_import=model.opset_import, ir_version=model.ir_version)
    try:
        return Session(single.SerializeToString()).run(inputs)[node.output[0]]
    except ModelError:
        return None


def _inline(graph: Any, values: _Constants) -> int:
    """Put the branch that is always taken in the place of an If."""
    nodes: list[Any] = []
    gone = 0
    for node in graph.node:
        if node.op_type != "If" or node.input[0] not in values:
            nodes.append(node)
            continue
        wanted = "then_branch" if bool(values[node.input[0]].all()) else "else_branch"
        branch = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
        nodes += list(branch.node)
        nodes += [_same(value.name, name) for value, name in zip(branch.output, node.output, strict=True)]
        gone += 1
    if gone:
        del graph.node[:]
        graph.node.extend(nodes)
    return gone


def _same(source: str, result: str) -> Any:
    from onnx import helper

    return helper.make_node("Identity", [source], [result])
