"""Weights that a graph stores in another form and expands itself: it gets smaller, and computes as before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.graph.apart import without
from modelmill.graph.scopes import hoist, nodes

READERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "GRU", "LSTM", "RNN"})
FLOAT, INT32, UINT4, INT4 = 1, 6, 21, 22
"""ONNX's numbers for the types."""
INTEGERS, IR_VERSION = 13, 7
"""The opset that knows integers with a scale for every channel, and the version of the format that came with it."""
NIBBLES = 21
"""The opset that knows 4-bit numbers, and blocks with a scale each."""


def large(model: Any, smallest: int) -> Mapping[str, Array]:
    """The float weights of at least so many numbers that nodes with weights read, by name; preparation has none."""
    known = constants(model)
    read = dict.fromkeys(name for node in nodes(model) if node.op_type in READERS for name in node.input)
    tensors = (known[name] for name in read if name in known)
    return _Large(
        {
            tensor.name: tensor
            for tensor in tensors
            if tensor.data_type == FLOAT and len(tensor.dims) > 1 and math.prod(tensor.dims) >= smallest
        }
    )


class _Large(Mapping[str, Array]):
    """Weights by name; one is an array only while it is looked at."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Array:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._tensors[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def expanded(model: Any, name: str, tensors: Sequence[Any], nodes: Sequence[Any]) -> None:
    """Put nodes that make the value of an initializer, from other tensors, in its place."""
    places = [place for place, tensor in enumerate(model.graph.initializer) if tensor.name == name]
    del model.graph.initializer[places[0]]
    model.graph.initializer.extend(tensors)
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])


def packed(name: str, codes: Array, kind: int) -> Any:
    """A tensor of 4-bit numbers, two a byte, as raw bytes: the low half is the first.

    >>> packed("w", np.array([[1, 2, -1]]), INT4).raw_data.hex()
    '210f'
    """
    from onnx import TensorProto

    flat = (np.append(codes, codes.dtype.type(0))[: codes.size + codes.size % 2] & 15).astype(np.uint8)
    raw = (flat[0::2] | flat[1::2] << 4).tobytes()
    return TensorProto(name=name, data_type=kind, dims=codes.shape, raw_data=raw)


def coded(model: Any, name: str, codes: Array, count: int) -> Any:
    """The tensor of codes below `count`: 4 bits each where these are enough and the model's operators know them."""
    from onnx import numpy_helper

    if count <= 16 and _operators(model).version >= NIBBLES:
        return packed(name, codes, UINT4)
    return numpy_helper.from_array(codes.astype(np.uint8), name)


def _operators(model: Any) -> Any:
    """Where a model says in which version its operators are written."""
    return next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def upgrade(model: Any, opset: int = NIBBLES, ir_version: int = 10) -> Any:
    """The model, in place, by a version of the operators that knows 4-bit numbers and blocks, or another.

    What we write in version 20 means the same there. Raises ModelError where another file cannot be brought there.
    """
    from onnx import version_converter

    found = _operators(model)
    model.ir_version = max(model.ir_version, ir_version)
    if found.version >= opset:
        return model
    if found.version == 20 and not any(node.op_type == "GroupNormalization" for node in model.graph.node):
        found.version = opset
        return model
    try:
        converted = version_converter.convert_version(without(model), opset)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError("graph", f"cannot be brought to opset {opset}: {reason}", "Export it anew.") from error
    known = constants(model)
    called = {node.output[0]: node.name for node in nodes(model)}
    del model.graph.node[:]
    model.graph.node.extend(converted.graph.node)
    model.graph.initializer.extend(tensor for tensor in converted.graph.initializer if tensor.name not in known)
    del model.opset_import[:]
    model.opset_import.extend(converted.opset_import)
    kept = [called.get(node.output[0], "") for node in nodes(model) if node.op_type != "Constant"]
    hoist(model)  # values get other names where there are graphs within, and nodes lose theirs
    for number, (node, name) in enumerate(zip(nodes(model), kept, strict=True)):
        node.name = name or f"converted{number}"
    return model
