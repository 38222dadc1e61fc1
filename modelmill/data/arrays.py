"""Data that come as whole arrays: features or images, a target, and perhaps a stated test set."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from modelmill.contracts import Source
from modelmill.data.cells import Array
from modelmill.data.table import drop_unlabeled
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, UsageError
from modelmill.finding import Finding
from modelmill.signature import DTYPES, Datatype, Field

DATATYPES: dict[str, Datatype] = {dtype: name for name, dtype in DTYPES.items()}  # type: ignore[misc]
CHANNELS = (1, 3, 4)
"""How many channels an image may have."""


def features(x: Array, where: str, kind: str = "auto") -> tuple[Field, Array]:
    """The field and values of an array of rows: (rows, d) numbers are `x`, (rows, h, w[, c]) is `image`, raw.

    kind: "sequence" takes (rows, steps[, channels]) for `sequence`, raw.

    >>> features(np.zeros((2, 8, 8), np.uint8), "x")[0].datatype
    'UINT8'
    >>> features(np.zeros((2, 9, 3)), "x", "sequence")[0].name
    'sequence'
    """
    if x.dtype.kind not in "bifu":
        raise ContentError(where, f"holds values of the type {x.dtype}; expected numbers", "Give an array of numbers.")
    if kind == "sequence":
        if x.ndim not in (2, 3):
            wanted = "expected (rows, steps) or (rows, steps, channels)"
            raise ContentError(where, f"has the shape {x.shape}; {wanted}", "Pad sequences to one length.")
        return _raw(x, where, "sequence", "steps")
    if x.ndim in (1, 2):
        values = _float32(x.reshape(len(x), -1))
        return Field("x", "FP32", (-1, values.shape[1]), "array", bool(np.isnan(values).any())), values
    if x.ndim == 3 or (x.ndim == 4 and x.shape[3] in CHANNELS):
        return _raw(x, where, "image", "pixels")
    raise ContentError(
        where,
        f"has the shape {x.shape}; expected (rows, features) or (rows, height, width[, channels])",
        "Images have 1, 3 or 4 channels on the last axis.",
    )


def _raw(x: Array, where: str, kind: Literal["image", "sequence"], of: str) -> tuple[Field, Array]:
    """An image or a sequence as it came; `of` is what it is made of."""
    if 0 in x.shape[1:]:
        raise ContentError(where, f"has {kind}s of the shape {x.shape[1:]}", f"Give {kind}s with {of}.")
    if x.dtype == np.float64:
        x = _float32(x)
    if x.dtype == np.bool_:
        x = x.astype(np.uint8)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ContentError(where, f"holds {of} that are not finite", "Replace them.")
    return Field(kind, DATATYPES[x.dtype.newbyteorder("=").name], (-1, *x.shape[1:]), kind), x


def _float32(x: Array) -> Array:
    """Values as float32; infinite ones count as missing."""
    with np.errstate(over="ignore"):
        found: Array = x.astype(np.float32)
    found[np.isinf(found)] = np.nan
    return found


def labels(y: Array, where: str) -> Array:
    """(rows,) a target as text, whole numbers or numbers."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ContentError(where, f"has the shape {y.shape}; expected one value a row", "Give one target a row.")
    if y.dtype.kind in "US":
        return np.array([str(text.decode() if isinstance(text, bytes) else text) for text in y.tolist()], dtype=object)
    if y.dtype.kind == "b":
        return np.where(y, "true", "false").astype(object)
    if y.dtype.kind in "iu":
        return y.astype(np.int64)
    if y.dtype.kind == "f":
        return y.astype(np.float64)
    raise ContentError(where, f"holds values of the type {y.dtype}", "Give text or numbers to predict.")


def dataset(x: Array, y: Array, where: str, target_name: str, kind: str = "auto") -> Dataset:
    """The rows of an array with their targets; rows without a target are left out."""
    field, values = features(x, f"{where}: x", kind)
    target = labels(y, f"{where}: {target_name}")
    if len(values) != len(target):
        message = f"{len(values)} rows of features and {len(target)} targets do not fit together"
        raise ContentError(where, message, "Give one target a row.")
    if len(target) == 0:
        raise ContentError(where, "holds no rows", "Give rows to learn from.")
    found = Dataset((field,), {field.name: values}, target, target_name, origin=where)
    kept, findings = drop_unlabeled(found)
    return replace(kept, findings=(*findings, *_empty(values, field, where)))


def _empty(values: Array, field: Field, where: str) -> tuple[Finding, ...]:
    if field.kind != "array" or not field.nullable:
        return ()
    count = int(np.isnan(values).all(axis=0).sum())
    if not count:
        return ()
    return (Finding("missing", "warning", where, f"{count} of the columns of x have no value at all"),)


def with_test(train: Dataset, test: Dataset) -> Dataset:
    """The data set with its stated test set, of the same field."""
    ours, theirs = train.fields[0], test.fields[0]
    if (ours.shape, ours.kind) != (theirs.shape, theirs.kind):
        message = f"the test set has rows of the shape {theirs.shape[1:]}; expected {ours.shape[1:]}"
        raise ContentError(test.origin, message, "Give test rows of the same shape.")
    field = replace_nullable(ours, ours.nullable or theirs.nullable)
    columns = {field.name: test.columns[field.name].astype(field.dtype, copy=False)}
    stated = replace(test, fields=(field,), columns=columns, target=_like(test, train))
    return replace(train, fields=(field,), test=stated)


def replace_nullable(field: Field, nullable: bool) -> Field:
    """The field, with or without gaps."""
    return Field(field.name, field.datatype, field.shape, field.kind, nullable)


def _like(test: Dataset, train: Dataset) -> Array:
    """The test set's targets in the type of the training rows'."""
    assert test.target is not None, "a stated test set has a target"
    assert train.target is not None, "so have training rows"
    if (test.target.dtype == object) != (train.target.dtype == object):
        raise ContentError(test.origin, "the targets of the test set are of another type", "Give the same labels.")
    return test.target


def refuse_columns(source: Source, where: str) -> None:
    """Refuse settings that speak of columns where the data have none."""
    for name in ("types", "group", "time", "weight"):
        if getattr(source, name):
            raise UsageError(
                f"data.{name}", f"{where} has no columns to name", "Leave the setting out, or give a table."
            )
