"""Says what goes into an ONNX file and what comes out."""

from __future__ import annotations

from typing import Any, cast, get_args

from modelmill.errors import ModelError
from modelmill.graph.clean import load
from modelmill.signature import Datatype, Field

DATATYPES = {"FLOAT16": "FP16", "FLOAT": "FP32", "DOUBLE": "FP64", "STRING": "BYTES"}


def describe(data: bytes) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """The inputs and outputs of an ONNX file as fields; free sizes are -1.

    Raises ModelError for a value that is no tensor, or of a type that the Open Inference Protocol has not.
    """
    graph = load(data).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_field(value) for value in graph.input if value.name not in constants)
    return inputs, tuple(_field(value) for value in graph.output)


def _field(value: Any) -> Field:
    shape = tuple(_size(axis) for axis in value.type.tensor_type.shape.dim)
    datatype = _datatype(value)
    if datatype == "BYTES":
        return Field(value.name, datatype, shape, "category")
    return Field(value.name, datatype, shape, "number" if len(shape) <= 1 else "array")


def _size(axis: Any) -> int:
    return axis.dim_value if axis.HasField("dim_value") else -1


def _datatype(value: Any) -> Datatype:
    import onnx

    if not value.type.HasField("tensor_type"):
        raise ModelError("graph", f"{value.name!r} is no tensor", "Export the model without ZipMap and sequences.")
    name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    datatype = DATATYPES.get(name, name)
    if datatype not in get_args(Datatype):
        raise ModelError("graph", f"{value.name!r} has the type {name}", f"Known: {', '.join(get_args(Datatype))}.")
    return cast(Datatype, datatype)
