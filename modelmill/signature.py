"""What goes into a model and what comes out: names, types, shapes, and the classes it knows."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal

import msgspec

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
"""The tensor types of the Open Inference Protocol."""

Kind = Literal["number", "boolean", "category", "date", "array", "image", "sequence"]
"""What a column means, beside how it is stored: an INT64 may be a number or a date."""

DTYPES: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""The numpy dtype of every datatype; BYTES is an object array of `str`."""

NO_DATE = -(2**63)
"""A missing date, as INT64 milliseconds: numpy's NaT."""


ROWS = "rows"
"""What the rows' axis is called in a graph."""


class Field(msgspec.Struct, frozen=True):
    """One input or output: a column, an image, an array. A size of -1 in `shape` is any size."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...] = (-1,)
    kind: Kind = "number"
    nullable: bool = False
    axis: int | None = 0
    """The axis of the rows; None for a value that is one for all rows of a call, as a sampling rate is."""

    @property
    def dtype(self) -> str:
        """The numpy dtype of the column."""
        return DTYPES[self.datatype]

    @property
    def is_boolean(self) -> bool:
        """Whether its values are true and false, however they are stored."""
        return self.kind == "boolean" or self.datatype == "BOOL"

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one row's value.

        >>> Field("state", "FP32", (2, -1, 128), axis=1).row
        (2, 128)
        """
        return tuple(size for place, size in enumerate(self.shape) if place != self.axis)

    @property
    def width(self) -> int:
        """How many columns of a table hold a row's value: -1 for any number, 0 where no table holds it.

        >>> [Field("x", "FP32", shape).width for shape in ((-1,), (-1, 2, 3), (-1, -1), (-1, 3, -1))]
        [1, 6, -1, 0]
        """
        if -1 not in self.row:
            return math.prod(self.row)
        return -1 if len(self.row) == 1 else 0

    @property
    def is_column(self) -> bool:
        """Whether a row's value is one element, which a cell of a table holds."""
        return self.width == 1

    @property
    def rows(self) -> int:
        """How many rows a call takes: -1 for any number."""
        return -1 if self.axis is None else self.shape[self.axis]


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives: `classes` are the labels in the order of the probabilities."""

    task: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    classes: tuple[str | int, ...] = ()
    target: str = ""
    example: tuple[Any, ...] = ()
    """One row of the training data, a value an input, as JSON values: for documentation and the try-it page."""
    series: bool = False
    """Whether the answer to a row depends on other rows of the same call: calls are never joined nor cut."""

    def is_block(self, names: Collection[str]) -> bool:
        """Whether the columns of a table with these names are one tensor together, in their order.

        >>> one, wide = (Signature("compute", (Field("x", "FP32", (-1, size)),), ()) for size in (1, 2))
        >>> one.is_block(["x"]), one.is_block(["a"]), wide.is_block(["x", "a"])
        (False, True, True)
        """
        field, *others = self.inputs
        return not others and bool(field.row) and not (field.is_column and field.name in names)
