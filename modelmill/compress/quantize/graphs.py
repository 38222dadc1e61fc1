"""What both ways to quantize share: which nodes of a graph are worth it, and how the result is tidied."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.dataset import Dataset, Splits
from modelmill.graph import clean
from modelmill.graph.scopes import graphs, hoist, nodes
from modelmill.model import Model
from modelmill.trial import Progress

HEAVY = frozenset({"Conv", "Gemm", "MatMul"})
FOLLOWERS = frozenset(
    {
        "Relu",
        "Clip",
        "LeakyRelu",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Add",
        "Flatten",
        "Reshape",
        "Transpose",
    }
)
"""What may stay in integers between heavy nodes."""


def load(graph: bytes) -> Any:
    """The graph as an onnx model whose nodes have names, and whose constants are all initializers of the outer graph.

    Graphs within it (branches, loops) read those, too.
    """
    from onnx.inliner import inline_local_functions

    model = clean.load(graph)
    if model.functions:
        model = inline_local_functions(model)
    hoist(model)
    named(model)
    plain(model)
    return model


def plain(model: Any) -> None:
    """Say every Gemm of constant weights with alpha and beta of 1 and a bias of one number an output, in place.

    What computes in integers knows no factors, and scales of biases are by output.
    """
    from onnx import numpy_helper

    known = constants(model)

    def put(node: Any, place: int, value: Any) -> None:
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), f"{node.name}_{place}")
        model.graph.initializer.append(tensor)
        node.input[place] = tensor.name

    for node in nodes(model):
        if node.op_type != "Gemm" or node.domain not in ("", "ai.onnx") or (weight := known.get(node.input[1])) is None:
            continue
        factors = {attribute.name: attribute for attribute in node.attribute}
        alpha, beta = (factors[name].f if name in factors else 1.0 for name in ("alpha", "beta"))
        turned = "transB" in factors and factors["transB"].i
        width = weight.dims[0 if turned else 1]
        bias = known.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if alpha != 1:
            value = numpy_helper.to_array(weight)
            put(node, 1, value * value.dtype.type(alpha))
            factors["alpha"].f = 1.0
        if bias is not None and (beta != 1 or list(bias.dims) != [width]) and math.prod(bias.dims) in (1, width):
            value = numpy_helper.to_array(bias)
            put(node, 2, np.broadcast_to((value * value.dtype.type(beta)).ravel(), (width,)))
            beta = 1.0
        if "beta" in factors and (beta == 1 or len(node.input) < 3):
            factors["beta"].f = 1.0


def named(model: Any) -> None:
    """Give every node a name of its own, in place."""
    for number, node in enumerate(nodes(model)):
        node.name = f"n{number}"


def heavy(model: Any, types: frozenset[str], smallest: int, inner: bool = False) -> list[str]:
    """The names of the nodes whose float weights are constants of at least `smallest` numbers.

    inner: whether nodes of graphs within are looked for as well; weights that these read are else left to them.
    """
    known = constants(model)
    taken = () if inner else {name for graph in graphs(model)[:-1] for node in graph.node for name in node.input}
    return [
        node.name
        for node in (nodes(model) if inner else model.graph.node)
        if node.op_type in types
        and node.domain in ("", "ai.onnx")
        and _weight(node, known) >= smallest
        and node.input[1] not in taken
    ]


def _weight(node: Any, known: Mapping[str, Any]) -> int:
    """How many numbers the constant float weight of a node has; 0 where there is none, or one that is no matrix."""
    tensor = known.get(node.input[1]) if len(node.input) > 1 else None
    if tensor is None or tensor.data_type != 1 or node.input[0] in known:
        return 0
    if len(tensor.dims) < 2 or (len(tensor.dims) > 2 and node.op_type in ("Gemm", "MatMul")):
        return 0
    return math.prod(tensor.dims)


def followers(model: Any, starts: list[str]) -> list[str]:
    """The nodes that only move on what heavy nodes give: they may stay in integers too."""
    reached, found = set(), []
    for node in model.graph.node:
        if node.name in starts:
            reached.update(node.output)
        elif node.op_type in FOLLOWERS and node.input and reached.intersection(node.input):
            reached.update(node.output)
            found.append(node.name)
    return found


def sample(data: Splits, rows: int, seed: int) -> Dataset:
    """So many training rows, or all, picked by the seed, in their order."""
    return data.train.take(np.sort(np.random.default_rng(seed).permutation(data.train.rows)[:rows]))


def planned(count: int, what: str) -> Progress:
    """The first Progress of a quantization: what it will do, before it does."""
    return Progress(0, 1, note=f"{count} nodes will {what}")


def outcome(model: Model, graph: bytes, name: str, count: int, what: str = "compute in 8 bits") -> Progress:
    """The last Progress of a quantization: its result, what so many nodes now do, and what became of the size."""
    before, after = len(model.body.value), len(graph)
    verb = "shrank" if after < before else "grew"
    note = f"{count} nodes {what}; the file {verb} from {before} to {after} bytes"
    values = {"size_bytes": float(after), "size_bytes_before": float(before)}
    return Progress(1, 1, values, note, model.with_body(graph, "graph", f"{name}: {note}"))


def skipped(model: Model, smallest: int, types: str = "Conv, Gemm or MatMul") -> Progress:
    """The Progress where there is nothing to do: the model as it came.

    types: of nodes that would have been quantized.
    """
    note = f"nothing to quantize: no {types} multiplies by a constant float32 weight of {smallest} numbers or more"
    return Progress(1, 1, note=note + passed_over(load(model.body.value), smallest), result=model)


def passed_over(model: Any, smallest: int) -> str:
    """Which large weights of Conv, Gemm and MatMul no step quantizes, and what to do, as it goes on a note."""
    known, found = constants(model), dict[str, set[str]]()
    within = {node.name for graph in graphs(model)[:-1] for node in graph.node}
    for node in nodes(model):
        for place, name in enumerate(node.input[:2] if node.op_type in HEAVY else ()):
            tensor = known.get(name)
            if tensor is not None and math.prod(tensor.dims) >= smallest:
                why = _why(node, tensor, place) or "read within a branch or a loop" * (node.name in within)
                found.setdefault(why, set()).add(name)
    found.pop("", None)
    said = ", ".join(f"{len(names)} {why}" for why, names in found.items())
    return f"; large weights that stay: {said}" if said else ""


def _why(node: Any, tensor: Any, place: int) -> str:
    from onnx import TensorProto, helper

    if tensor.data_type in (TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        return f"in {kind} (no step changes that: export the model in float32, in PyTorch after model.float())"
    if place == 0 and node.op_type != "Conv":
        return f"on the left of a {node.op_type} (export the model with it on the right, as x @ w)"
    return "with more than two axes" if len(tensor.dims) > 2 and node.op_type == "MatMul" else ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without onnxruntime's hints to people who call its tools by hand, and without what its tools print."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        root.setLevel(before)
