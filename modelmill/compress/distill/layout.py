"""Fits a preparation to the tensors of a file from outside: rows on another axis, values for a whole call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from msgspec.structs import replace as told

from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.fragment import Fragment, Writer
from modelmill.method import decode
from modelmill.prepare.chain import Prepared, defaults, prepare
from modelmill.signature import Field


def fitted(train: Dataset, kind: str) -> Prepared:
    """The preparation that the fields need by default, fitted on the rows; it starts from the tensors of a call.

    kind: "table", "image" or "sequence". Raises ModelError where no tensor of a call tells how many rows it has.
    """
    rows = next((field for field in train.fields if field.axis is not None), None)
    if rows is None:
        message = "every input is one value for all rows of a call, so that a call has no rows to learn from"
        raise ModelError("compress.distill", message, "Quantize or prune the file itself.")
    fields = tuple(map(rows_first, train.fields))
    steps = [decode("prepare", step) for step in defaults(fields, kind)]
    made = prepare(steps, replace(train, fields=fields), kind)
    return replace(made, fragment=_from_tensors(made.fragment, train.fields, rows))


def rows_first(field: Field) -> Field:
    """The field with any number of rows, on the first axis.

    >>> rows_first(Field("state", "FP32", (2, 4, 128), "array", axis=1)).shape
    (-1, 2, 128)
    """
    return told(field, shape=(-1, *field.row), axis=0)


def _from_tensors(fragment: Fragment, fields: Sequence[Field], rows: Field) -> Fragment:
    """The operations behind those that bring the rows of every tensor to its first axis."""
    writer = Writer(fragment, taken=[field.name for field in fields])
    names = {field.name: _turned(field, rows, writer) for field in fields if field.axis != 0}
    whole, count = writer.fragment(), len(fragment.ops)
    behind = [replace(op, inputs=tuple(names.get(name, name) for name in op.inputs)) for op in whole.ops[:count]]
    return Fragment((*whole.ops[count:], *behind), whole.constants)


def _turned(field: Field, rows: Field, writer: Writer) -> str:
    """A tensor as a value for every row; one that holds for the whole call is every row's."""
    if field.axis is not None:
        others = [axis for axis in range(len(field.shape)) if axis != field.axis]
        return writer.op("Transpose", [field.name], {"perm": [field.axis, *others]})
    assert rows.axis is not None, "it was chosen by having one"
    count = writer.op("Shape", [rows.name], {"start": rows.axis, "end": rows.axis + 1})
    sizes = writer.op("Concat", [count, writer.constant(np.ones(len(field.shape), np.int64))], {"axis": 0})
    spread = writer.op("Expand", [field.name, sizes])
    if field.shape and min(field.shape) >= 0:
        return writer.op("Reshape", [spread, writer.constant([-1, *field.shape], np.int64)])
    return spread
