"""An ONNX model apart from its large weights, so that tools which copy what they are given copy little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WEIGHTS, PAGE = "weights", 4096
"""The file of large weights, and the multiple of bytes at which each begins."""
SMALL = 1024
"""Numbers of a constant that stays: tools may need to know it, such as the shape that a Reshape gives."""


def is_large(tensor: Any) -> bool:
    """Whether a tensor can be told by its type and shape alone."""
    return bool(math.prod(tensor.dims) > SMALL and tensor.HasField("raw_data"))


def without(model: Any) -> Any:
    """A copy of the model in which large weights are inputs."""
    from onnx import helper

    bare = rest(model)
    for tensor in model.graph.initializer:
        if is_large(tensor):
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            bare.graph.initializer.append(tensor)
    return bare


def saved(model: Any, outputs: Sequence[str], folder: Path) -> Path:
    """The path of a copy of the model that gives those float values; large weights lie in a file beside it.

    A runtime maps that file into memory, and needs no copy of its own.
    """
    import onnx

    bare = rest(model)
    del bare.graph.output[:]
    for name in outputs:
        bare.graph.output.add(name=name).type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with (folder / WEIGHTS).open("wb") as file:
        for tensor in model.graph.initializer:
            if not is_large(tensor):
                bare.graph.initializer.append(tensor)
                continue
            named = bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            named.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", WEIGHTS), ("offset", file.tell()), ("length", len(tensor.raw_data))):
                named.external_data.add(key=key, value=str(value))
            file.write(tensor.raw_data)
            file.write(bytes(-file.tell() % PAGE))
    path = folder / "model.onnx"
    path.write_bytes(bare.SerializeToString())
    return path


def rest(model: Any) -> Any:
    """A copy of the model without any of its weights."""
    import onnx

    graph = onnx.GraphProto(name="model")
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    bare = onnx.ModelProto(ir_version=model.ir_version, graph=graph, opset_import=model.opset_import)
    bare.functions.extend(model.functions)
    return bare
