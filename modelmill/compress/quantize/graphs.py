"""What both ways to quantize share: which nodes of a graph are worth it, and how the result is tidied."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.tidy import tidy
from modelmill.dataset import Dataset, Splits
from modelmill.errors import ModelError
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
    """The graph as an onnx model whose nodes have names.

    Raises ModelError for one with branches: they read values by names that a quantized graph no longer has.
    """
    import onnx

    model = onnx.load_from_string(graph)
    for node in model.graph.node:
        if any(
            attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            raise ModelError(
                "compress.quantize", f"the graph has branches ({node.op_type})", "Quantize it before that."
            )
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return model


def heavy(model: Any, types: frozenset[str], smallest: int) -> list[str]:
    """The names of the nodes whose float weights are constants of at least `smallest` numbers."""
    known = constants(model)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in types and node.domain in ("", "ai.onnx") and _weight(node, known) >= smallest
    ]


def _weight(node: Any, known: Mapping[str, Any]) -> int:
    """How many numbers the constant float weight of a node has; 0 where there is none."""
    tensor = known.get(node.input[1]) if len(node.input) > 1 else None
    if tensor is None or tensor.data_type != 1 or node.input[0] in known:
        return 0
    return int(np.prod(tensor.dims))


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


def dynamic(graph: bytes, nodes: list[str], per_channel: bool, reduce_range: bool) -> bytes:
    """The graph with the weights of those nodes, Gemm or MatMul, in 8 bits."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = load(graph)
    made = [f"{name}_MatMul" for name in nodes]  # the tool turns a Gemm into a MatMul of this name
    with quiet(), TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            model,
            path,
            nodes_to_quantize=[*nodes, *made],
            per_channel=per_channel,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )
        return tidy(onnx.load(path))


def sample(data: Splits, rows: int, seed: int) -> Dataset:
    """So many training rows, or all, picked by the seed, in their order."""
    return data.train.take(np.sort(np.random.default_rng(seed).permutation(data.train.rows)[:rows]))


def planned(nodes: int, what: str) -> Progress:
    """The first Progress of a quantization: what it will do, before it does."""
    return Progress(0, 1, note=f"{nodes} nodes will {what}")


def outcome(model: Model, graph: bytes, name: str, nodes: int, what: str = "compute in 8 bits") -> Progress:
    """The last Progress of a quantization: its result, what so many nodes now do, and what became of the size."""
    before, after = len(model.body.value), len(graph)
    verb = "shrank" if after < before else "grew"
    note = f"{nodes} nodes {what}; the file {verb} from {before} to {after} bytes"
    values = {"size_bytes": float(after), "size_bytes_before": float(before)}
    return Progress(1, 1, values, note, model.with_body(graph, "graph", f"{name}: {note}"))


def skipped(model: Model, smallest: int) -> Progress:
    """The Progress where there is nothing to do: the model as it came."""
    note = f"nothing to quantize: no Conv, Gemm or MatMul has a constant weight of {smallest} numbers or more"
    return Progress(1, 1, note=note, result=model)


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
