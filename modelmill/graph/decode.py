"""Says what goes into an ONNX file and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from modelmill.errors import ModelError
from modelmill.graph.clean import load
from modelmill.signature import ROWS, Datatype, Field

DATATYPES = {"FLOAT16": "FP16", "FLOAT": "FP32", "DOUBLE": "FP64", "STRING": "BYTES"}

Shape = Sequence[int | str | None]
"""The sizes of a value as its file declares them: a number, a name, or nothing."""


def describe(data: bytes) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """The inputs and outputs of an ONNX file as fields; free sizes are -1.

    Raises ModelError for a value that is no tensor, or of a type that the Open Inference Protocol has not.
    """
    return fields(load(data))


def fields(model: Any) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """As `describe`, of a model that is open already."""
    inputs = given(model)
    axes = axes_of({value.name: shape(value) for value in (*inputs, *model.graph.output)})
    return (
        tuple(_field(value, axes[value.name]) for value in inputs),
        tuple(_field(value, axes[value.name]) for value in model.graph.output),
    )


def given(model: Any) -> list[Any]:
    """The inputs of a model that have to be given: older files list their weights too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def shape(value: Any) -> Shape:
    """What the file says of the sizes of an input or output."""
    return [
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None
        for axis in value.type.tensor_type.shape.dim
    ]


def axes_of(shapes: Mapping[str, Shape]) -> dict[str, int | None]:
    """The rows' axis of every value of a file, by the shapes that it declares, names for the free sizes.

    A file of ours names that axis; in any other it is the first one, and where that has a fixed size, the first of the
    values that have the same.
    """
    if any(ROWS in shape for shape in shapes.values()):
        return {name: list(shape).index(ROWS) if ROWS in shape else None for name, shape in shapes.items()}
    fixed = next((shape[0] for shape in shapes.values() if shape and isinstance(shape[0], int)), None)
    return {
        name: 0 if shape and (not isinstance(shape[0], int) or shape[0] == fixed) else None
        for name, shape in shapes.items()
    }


def _field(value: Any, axis: int | None) -> Field:
    sizes = tuple(size if isinstance(size, int) else -1 for size in shape(value))
    datatype = _datatype(value)
    kind = "category" if datatype == "BYTES" else "number" if len(sizes) <= 1 else "array"
    return Field(value.name, datatype, sizes, kind, axis=axis)  # type: ignore[arg-type]


def _datatype(value: Any) -> Datatype:
    import onnx

    if not value.type.HasField("tensor_type"):
        raise ModelError("graph", f"{value.name!r} is no tensor", "Export the model without ZipMap and sequences.")
    name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    datatype = DATATYPES.get(name, name)
    if datatype not in get_args(Datatype):
        raise ModelError("graph", f"{value.name!r} has the type {name}", f"Known: {', '.join(get_args(Datatype))}.")
    return cast(Datatype, datatype)
