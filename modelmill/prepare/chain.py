"""Runs the steps of preparation one after the other: from raw columns to the one value `features`.

Every step is fitted on what the graph so far gives for the training rows, so that training and serving see the same
numbers by construction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from modelmill.contracts import Array, Column, Preparation
from modelmill.dataset import Dataset
from modelmill.errors import SpecError
from modelmill.fragment import Fragment, Writer
from modelmill.prepare.block import join, of_kind, without
from modelmill.prepare.flatten import Flatten
from modelmill.prepare.image import Image
from modelmill.prepare.scale import Scale
from modelmill.prepare.sequence import Sequence as Sequenced
from modelmill.signature import Field

FIT_ROWS = 100_000
"""Training rows that are fitted on at most; of more, every so manyth is taken."""

FEATURES = "features"
"""The name of the value that every preparation ends in."""

EXACT = 2**24
"""Whole numbers up to here are exact as float32."""

KEPT = 8
"""Preparations that are kept in this process."""

STEPS = {"category": "onehot", "date": "dates", "image": "image", "sequence": "sequence"}
"""Kind of a column: the step that turns it into numbers."""

KINDS = {"table": "a table", "image": "images", "sequence": "sequences"}
"""Kinds of features, as a person would say them."""

_kept: dict[tuple[bytes, str, str], Prepared] = {}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A fitted preparation: its operations, the shape of a row of features, and what the features are called."""

    fragment: Fragment
    shape: tuple[int, ...]
    labels: tuple[str, ...]


def prepare(steps: Sequence[Preparation], train: Dataset, kind: str) -> Prepared:
    """Fit the steps on the training rows; the fragment ends in `features`, as a body of that kind takes them.

    kind: "table", "image" or "sequence". Raises SpecError where a column is left that no step turned into numbers. The
    last few preparations are kept: the trials of a search mostly share theirs.
    """
    key = (msgspec.json.encode([step.as_table() for step in steps]), train.digest, kind)
    if key not in _kept:
        _kept[key] = _fit(steps, train, kind)
        while len(_kept) > KEPT:
            _kept.pop(next(iter(_kept)))
    return _kept[key]


def defaults(fields: Sequence[Field], kind: str) -> list[dict[str, Any]]:
    """The `[[prepare]]` tables that the fields need, in order, where a spec has none.

    >>> defaults([Field("when", "INT64", kind="date"), Field("x", "FP32", nullable=True)], "table")
    [{'method': 'dates'}, {'method': 'impute'}, {'method': 'scale'}]
    """
    kinds = {field.kind for field in fields}
    gaps = any(field.nullable and field.kind not in ("category", "image", "sequence") for field in fields)
    wanted = {
        "image": "image" in kinds and kind != "sequence",
        "dates": "date" in kinds,
        "impute": gaps,
        "scale": bool(kinds & {"number", "boolean", "array", "date"}) and kind != "sequence",
        "onehot": "category" in kinds,
        "sequence": kind == "sequence" or "sequence" in kinds,
    }
    return [{"method": method} for method, needed in wanted.items() if needed]


def _fit(steps: Sequence[Preparation], train: Dataset, kind: str) -> Prepared:
    _check_names(train.fields)
    raw = _sample(train)
    writer = Writer(taken=(FEATURES, *raw))
    columns = _start(train.fields, raw, writer)
    if kind == "table" and _steps_leave_images(steps, columns):
        steps = [*steps, Flatten()]
    if kind == "sequence" and not any(isinstance(step, Sequenced) for step in steps):
        # A search may have bodies for images and for sequences, and steps for one of them.
        steps = [*(step for step in steps if not isinstance(step, Image | Scale)), Sequenced()]
    for step in steps:
        columns = list(step(_filled(columns, writer, train.fields, raw), writer))
    # Nothing is fitted on what the last step gives: one row tells its shape.
    columns = [replace(c, values=None if c.values is None else c.values[:1]) for c in columns]
    columns = _filled(columns, writer, train.fields, {name: values[:1] for name, values in raw.items()})
    features = _features(columns, writer, kind)
    writer.rename(features.name, FEATURES)
    assert features.values is not None, "the last step's columns are filled in"
    return Prepared(writer.fragment(), features.values.shape[1:], features.labels)


def _check_names(fields: Sequence[Field]) -> None:
    if any(field.name == FEATURES for field in fields):
        raise SpecError("data", f"a column is named {FEATURES!r}, which the graph needs itself", "Rename the column.")


def _sample(train: Dataset) -> dict[str, Array]:
    if train.rows <= FIT_ROWS:
        return {field.name: train.columns[field.name] for field in train.fields}
    index = np.linspace(0, train.rows - 1, FIT_ROWS).astype(np.int64)
    return {field.name: train.columns[field.name][index] for field in train.fields}


def _steps_leave_images(steps: Sequence[Preparation], columns: Sequence[Column]) -> bool:
    arrays = any(column.kind in ("image", "sequence") for column in columns)
    arrays = arrays or any(isinstance(step, Sequenced) for step in steps)
    return arrays and not any(isinstance(step, Flatten) for step in steps)


def _start(fields: Sequence[Field], raw: Mapping[str, Array], writer: Writer) -> list[Column]:
    """The raw columns: all numbers as one float32 block, the rest as they are."""
    blocks = [*_scalars(fields, raw, writer), *_arrays(fields, writer)]
    rest = [Column(f.name, f.kind, (f.name,), raw[f.name]) for f in fields if f.kind in STEPS]
    if not blocks:
        return rest
    if len(blocks) > 1:
        blocks = [join(_filled(blocks, writer, fields, raw), writer)]
    return [*blocks, *rest]


def _scalars(fields: Sequence[Field], raw: Mapping[str, Array], writer: Writer) -> Iterator[Column]:
    """One block of all columns of single numbers: columns of one type are joined before they are cast together."""
    by_type: dict[tuple[str, bool], list[Field]] = {}
    for field in fields:
        if field.kind in ("number", "boolean") and len(field.shape) == 1:
            by_type.setdefault((field.datatype, _is_large(raw[field.name])), []).append(field)
    if not by_type:
        return
    rows = [_cast(group, large, raw, writer) for (_, large), group in by_type.items()]
    names = [field.name for group in by_type.values() for field in group]
    name = rows[0] if len(rows) == 1 else writer.op("Concat", rows, {"axis": 0})
    if len(names) == 1:
        name = writer.op("Reshape", [name, writer.constant([-1, 1], np.int64)])
    else:
        # Columns end to end, then cut: two operations, where one Unsqueeze a column would be many.
        name = writer.op("Reshape", [name, writer.constant([len(names), -1], np.int64)])
        name = writer.op("Transpose", [name], {"perm": [1, 0]})
    yield Column(name, "number", tuple(names))


def _is_large(values: Array) -> bool:
    """Whether whole numbers are too large to be told apart as float32."""
    if values.dtype.kind not in "iu" and values.dtype != np.float64:
        return False
    return bool(np.nanmax(np.abs(values.astype(np.float64)), initial=0) > EXACT)


def _cast(group: Sequence[Field], large: bool, raw: Mapping[str, Array], writer: Writer) -> str:
    """Columns of one type end to end, as float32: (columns * rows,)."""
    names = [field.name for field in group]
    name = names[0] if len(names) == 1 else writer.op("Concat", names, {"axis": 0})
    if large:
        return _shifted(name, names, raw, writer)
    return name if group[0].datatype == "FP32" else writer.op("Cast", [name], {"to": 1})


def _shifted(name: str, names: Sequence[str], raw: Mapping[str, Array], writer: Writer) -> str:
    """Large whole numbers less their median, taken in float64, so that what differs is still seen in float32."""
    middles = np.array([[np.floor(np.nanmedian(raw[name].astype(np.float64)))] for name in names])
    wide = writer.op("Cast", [name], {"to": 11})
    wide = writer.op("Reshape", [wide, writer.constant([len(names), -1], np.int64)])
    wide = writer.op("Sub", [wide, writer.constant(middles, np.float64)])
    return writer.op("Reshape", [writer.op("Cast", [wide], {"to": 1}), writer.constant([-1], np.int64)])


def _arrays(fields: Sequence[Field], writer: Writer) -> Iterator[Column]:
    for field in fields:
        if field.kind in STEPS or len(field.shape) == 1:
            continue
        width = int(np.prod(field.shape[1:]))
        name = field.name if field.datatype == "FP32" else writer.op("Cast", [field.name], {"to": 1})
        if len(field.shape) > 2:
            name = writer.op("Reshape", [name, writer.constant([-1, width], np.int64)])
        yield Column(name, "number", tuple(f"{field.name}[{i}]" for i in range(width)))


def _filled(
    columns: Sequence[Column], writer: Writer, fields: Sequence[Field], raw: Mapping[str, Array]
) -> list[Column]:
    """The same columns with the values that the graph so far gives for the training rows."""
    found = dict(raw)
    lacking = [column for column in columns if column.values is None and column.name not in raw]
    if lacking:
        found.update(_run(lacking, writer, fields, raw))
    return [column if column.values is not None else replace(column, values=found[column.name]) for column in columns]


def _run(
    columns: Sequence[Column], writer: Writer, fields: Sequence[Field], raw: Mapping[str, Array]
) -> dict[str, Array]:
    from modelmill.graph.build import to_onnx
    from modelmill.runtime.session import Session

    outputs = [
        Field(column.name, "BYTES" if column.kind == "category" else "FP32", _shape(column)) for column in columns
    ]
    return Session(to_onnx(writer.fragment(), fields, outputs)).run_batches(raw)


def _shape(column: Column) -> tuple[int, ...]:
    if column.kind == "image":
        return (-1, -1, -1, -1)
    if column.kind == "sequence":
        return (-1, -1, -1)
    return (-1,) if column.kind == "category" else (-1, len(column.labels))


def _features(columns: Sequence[Column], writer: Writer, kind: str) -> Column:
    """What the columns come to as one value; refuses what is not yet numbers."""
    found = of_kind(columns, kind)
    if found and len(columns) == 1 and (kind == "sequence" or _is_scaled(found[0])):
        return found[0]
    if kind == "sequence" or of_kind(columns, "sequence"):
        kinds = ", ".join(sorted({column.kind for column in columns})) or "nothing"
        message = f"the body takes {KINDS[kind]}, and the steps give {kinds}"
        raise SpecError("prepare", message, "A sequence is one array of (steps, channels), or numbers alone.")
    for column in without(columns, of_kind(columns, "number")):
        if kind == "table" or column.kind != "image" or not _is_scaled(column):
            step = STEPS[column.kind]
            message = f"the column {column.labels[0]!r} is {_called(column.kind)}, and no step turns it into numbers"
            raise SpecError("prepare", message, f'Add {{ method = "{step}" }} to the steps.')
    if kind == "image":
        raise SpecError("prepare", "the body takes images, and the data are a table", "Choose a body for tables.")
    if not columns:
        raise SpecError("prepare", "no feature is left after the steps", "Lower min_count of onehot, or add columns.")
    return join(columns, writer)


def _is_scaled(image: Column) -> bool:
    return image.values is not None and image.values.ndim == 4 and image.name != image.labels[0]


def _called(kind: str) -> str:
    return {"category": "text", "date": "a date", "sequence": "a sequence"}.get(kind, "an image")
