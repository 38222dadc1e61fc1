"""From a table with a name for every column to a data set: types, the target, and the columns with a role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modelmill.contracts import Source
from modelmill.data.cells import (
    Array,
    booleans,
    dates,
    integers,
    is_text,
    kind_of,
    milliseconds,
    mostly_numbers,
    numbers,
    texts,
)
from modelmill.data.naming import as_input, find_target
from modelmill.data.rows import Rows
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, OutOfBounds, UnknownName, UsageError
from modelmill.finding import Finding
from modelmill.signature import NO_DATE, Field

KINDS = ("number", "boolean", "category", "date")
"""What a column may be said to be."""

WIDE = 256
"""A numeric table with more columns than this is one tensor."""

ALMOST = 0.9
"""A text column with this share of numbers was probably meant as one."""


def build(rows: Rows, source: Source, test: Rows | None = None) -> Dataset:
    """The data set in a table, with the target, types and roles that the source states.

    The stated test set gets the same fields: a column has gaps if it has them on either side.
    Raises UnknownName for a column that is not there, ContentError with the place of a value that does not fit.
    """
    target, findings = choose_target(rows.names, rows.origin, source)
    check_names(rows, source, target)
    tables = [rows] if test is None else [rows, test]
    if test is not None:
        _check_test(rows, test, source, target)
    left_out = {target, source.group, source.weight}
    made = [convert(tables, name, source.types.get(name, "")) for name in rows.names if name not in left_out]
    columns = [(field, arrays) for field, arrays, _ in made if field is not None]
    findings = (*rows.findings, *findings, *(finding for _, _, found in made for finding in found))
    if not columns:
        raise ContentError(rows.origin, f"has no column to predict {target!r} from", "Give a table with features.")
    columns, renamed = _rename(columns, rows)
    sets = [_dataset(columns, i, part, source, target) for i, part in enumerate(tables)]
    kept, dropped = drop_unlabeled(sets[0])
    found = replace(kept, test=drop_unlabeled(sets[1])[0] if test is not None else None)
    return widen(replace(found, findings=(*findings, *renamed, *dropped)))


def choose_target(names: Sequence[str], origin: str, source: Source) -> tuple[str, tuple[Finding, ...]]:
    """The column to predict: the stated one, else the one that is called so, else the last; and words for a guess."""
    if source.target:
        if source.target not in names:
            raise UnknownName.among(origin, "target column", source.target, names)
        return source.target, ()
    names = [name for name in names if name not in (source.group, source.weight, source.time)]
    if not names:
        raise ContentError(origin, "has no column to predict", "Give a table with a target and features.")
    name, said = find_target(names)
    why = "by its name" if said else "the last column"
    message = f"no target was named; {name!r} is predicted ({why})"
    return name, (Finding("target", "note", origin, message, "Name another with --target COLUMN."),)


def check_names(rows: Rows, source: Source, target: str) -> None:
    """Refuse roles and types for columns that are not there, and two roles for one column."""
    for role in ("group", "time", "weight"):
        name = getattr(source, role)
        if name and name not in rows.names:
            raise UnknownName.among(f"{rows.origin}: {role}", "column", name, rows.names)
        if name and name == target:
            raise UsageError(f"data.{role}", f"{name!r} is the target as well", "Name two different columns.")
    for name, kind in source.types.items():
        if name not in rows.names:
            raise UnknownName.among(f"{rows.origin}: types", "column", name, rows.names)
        if kind not in KINDS:
            raise OutOfBounds(f"data.types.{name} = {kind!r}", f"expected one of {', '.join(KINDS)}")


def _check_test(rows: Rows, test: Rows, source: Source, target: str) -> None:
    for name in rows.names:
        if name not in test.names and name not in (source.group, source.weight, source.time):
            what = "the target" if name == target else "the column"
            raise UnknownName(
                test.origin, f"{what} {name!r} is missing from the test file", "Give a file with the same columns."
            )


Converted = tuple[Field | None, list[Array], list[Finding]]
"""A column's field, its values in every table, and what was noticed; no field for a column that is left out."""


def convert(tables: Sequence[Rows], name: str, stated: str) -> Converted:
    """One column of one or two tables, of the same type in both; the first one decides what it is."""
    first = tables[0].table[name]
    kind = stated or kind_of(first.type)
    where = f"{tables[0].origin} column {name}"
    if kind == "empty" or (first.null_count == len(first) and kind is not None):
        return None, [], [Finding("missing", "warning", where, "every value is missing; the column is left out")]
    if kind is None:
        message = f"holds values of the type {first.type}, which cannot be used; the column is left out"
        return None, [], [Finding("types", "warning", where, message, "Give one number, text or date a cell.")]
    if kind == "category" and not stated and tables[0].is_text and all_dates(first):
        kind = "date"
    made = {"number": _numbers, "boolean": _booleans, "date": _dates, "category": _texts}[kind](tables, name)
    field, arrays, findings = made
    if field is not None and missing(arrays[0], field).all():
        return None, [], [Finding("missing", "warning", where, "every value is missing; the column is left out")]
    if kind == "category" and not stated:
        findings = [*findings, *_meant_numbers(arrays[0], tables[0], name)]
    return field, arrays, findings


def missing(values: Array, field: Field) -> Array:
    """(rows,) whether the value is missing; for arrays and images, whether any part of it is."""
    found: Array
    if values.dtype == object:
        found = np.asarray(values == "")
    elif field.kind == "date":
        found = np.asarray(values == NO_DATE)
    elif values.dtype.kind == "f":
        found = np.asarray(np.isnan(values).any(axis=tuple(range(1, values.ndim))))
    else:
        found = np.zeros(len(values), bool)
    return found


def _numbers(tables: Sequence[Rows], name: str) -> Converted:
    whole = [integers(rows.table[name]) for rows in tables]
    if all(values is not None for values in whole):
        return Field(name, "INT64"), [values for values in whole if values is not None], []
    parts = [_as_float32(numbers(rows.table[name], rows.place, name)) for rows in tables]
    arrays = [values for values, _ in parts]
    endless = sum(count for _, count in parts)
    findings = [_endless(tables[0], name, endless)] if endless else []
    return Field(name, "FP32", nullable=bool(any(np.isnan(values).any() for values in arrays))), arrays, findings


def _as_float32(values: Array) -> tuple[Array, int]:
    """Values as float32, those that are infinite (or too large for it) as missing, and how many those are."""
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    endless = np.isinf(found)
    found[endless] = np.nan
    return found, int(endless.sum())


def _endless(rows: Rows, name: str, count: int) -> Finding:
    return Finding(
        "types",
        "warning",
        f"{rows.origin} column {name}",
        f"{count} values are infinite or too large for 32-bit numbers; they count as missing",
        figures={"values": count},
    )


def _booleans(tables: Sequence[Rows], name: str) -> Converted:
    arrays = [booleans(rows.table[name], rows.place, name) for rows in tables]
    if any(np.isnan(values).any() for values in arrays):
        floats = [values.astype(np.float32) for values in arrays]
        return Field(name, "FP32", kind="boolean", nullable=True), floats, []
    return Field(name, "BOOL", kind="boolean"), [values.astype(bool) for values in arrays], []


def _dates(tables: Sequence[Rows], name: str) -> Converted:
    arrays = [dates(rows.table[name], rows.place, name) for rows in tables]
    nullable = any((values == NO_DATE).any() for values in arrays)
    return Field(name, "INT64", kind="date", nullable=bool(nullable)), arrays, []


def _texts(tables: Sequence[Rows], name: str) -> Converted:
    arrays = [texts(rows.table[name]) for rows in tables]
    nullable = any((values == "").any() for values in arrays)
    return Field(name, "BYTES", kind="category", nullable=bool(nullable)), arrays, []


def _meant_numbers(values: Array, rows: Rows, name: str) -> list[Finding]:
    share, other = mostly_numbers(values)
    if not other or share < ALMOST:
        return []
    where = rows.place(values.tolist().index(other))
    return [
        Finding(
            "types",
            "warning",
            where,
            f"{name} is taken as text: {share:.1%} of its values are numbers, but {other!r} is none",
            f'Correct the values, or state types = {{ "{name}" = "number" }} to refuse them.',
            {"numbers": round(share, 6)},
        )
    ]


def _rename(columns: list[tuple[Field, list[Array]]], rows: Rows) -> tuple[list[Any], tuple[Finding, ...]]:
    """Give inputs that are called like an output another name, and say so."""
    names = [field.name for field, _ in columns]
    changes = {name: as_input(name, names) for name in names if as_input(name, names) != name}
    renamed = [
        (Field(changes.get(f.name, f.name), f.datatype, f.shape, f.kind, f.nullable), arrays) for f, arrays in columns
    ]
    findings = tuple(
        Finding(
            "names", "note", f"{rows.origin} column {old}", f"an output has this name, so the input is called {new!r}"
        )
        for old, new in changes.items()
    )
    return renamed, findings


def _dataset(
    columns: Sequence[tuple[Field, list[Array]]], number: int, rows: Rows, source: Source, target: str
) -> Dataset:
    return Dataset(
        fields=tuple(field for field, _ in columns),
        columns={field.name: arrays[number] for field, arrays in columns},
        target=_target(rows, target, source.types.get(target, "")),
        target_name=target,
        weights=_weights(rows, source.weight),
        groups=texts(rows.table[source.group]) if source.group in rows.names else None,
        times=_times(rows, source.time),
        origin=rows.origin,
    )


def _target(rows: Rows, name: str, stated: str) -> Array:
    """The target as labels (text or int64; whole numbers stay whole through gaps) or as float32 values.

    Missing ones are "" or NaN.
    """
    column = rows.table[name]
    kind = stated or kind_of(column.type)
    if kind == "category" and not stated and all_dates(column):
        kind = "date"
    if kind in ("date", None):
        raise ContentError(
            f"{rows.origin} column {name}",
            f"a target of {kind or column.type} values cannot be predicted",
            "Name another.",
        )
    if kind == "empty":
        return np.full(len(column), np.nan, np.float32)
    if kind in ("boolean", "category") and not (kind == "category" and not stated and _all_numbers(column)):
        return texts(column)
    whole = integers(column)
    return numbers(column, rows.place, name) if whole is None else whole


def _all_numbers(column: Any) -> bool:
    return is_text(column.type) and mostly_numbers(texts(column))[1] == ""


def all_dates(column: Any) -> bool:
    """Whether every text that is there is an ISO date."""
    if not is_text(column.type):
        return False
    there = set(texts(column).tolist()) - {""}
    return bool(there) and all(text[4:5] == "-" and milliseconds(text) is not None for text in there)


def _weights(rows: Rows, name: str) -> Array | None:
    if name not in rows.names:
        return None
    values = numbers(rows.table[name], rows.place, name)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        message = f"the weight {name} is {values[row]:g}; expected a number of at least 0"
        raise ContentError(rows.place(row), message, "Correct the weights.")
    if not values.any():
        raise ContentError(rows.origin, f"every weight in {name} is 0", "Give some row a weight.")
    return values.astype(np.float32)


def _times(rows: Rows, name: str) -> Array | None:
    if name not in rows.names:
        return None
    column = rows.table[name]
    if kind_of(column.type) == "number":
        values = numbers(column, rows.place, name)
        gaps = np.isnan(values)
        found: Array = np.where(gaps, 0, values).astype(np.int64)
    else:
        found = dates(column, rows.place, name)
        gaps = found == NO_DATE
    if gaps.any():
        where = rows.place(int(np.argmax(gaps)))
        raise ContentError(where, f"the time {name} is missing", "Give every row a time, or split without it.")
    return found


def drop_unlabeled(data: Dataset) -> tuple[Dataset, tuple[Finding, ...]]:
    """The rows that have a target, whole numbers as int64 and others as float32, and words for what was dropped."""
    target = data.target
    assert target is not None, "a table that is learned from has a target"
    there = (target != "") if target.dtype == object else np.isfinite(target)
    if not there.any():
        raise ContentError(data.origin, f"every value of the target {data.target_name!r} is missing", "Name another.")
    kept = data if there.all() else data.take(there)
    kept = replace(kept, target=_narrow(target[there]))
    lost = int((~there).sum())
    if not lost:
        return kept, ()
    message = f"{lost} of {len(target)} rows have no target; they are left out"
    where = f"{data.origin} column {data.target_name}"
    return kept, (Finding("target", "warning", where, message, figures={"rows": lost}),)


def _narrow(target: Array) -> Array:
    if target.dtype.kind != "f":
        return target
    whole = bool((target == np.floor(target)).all() and (np.abs(target) < 2**53).all())
    return target.astype(np.int64 if whole else np.float32)


def widen(data: Dataset) -> Dataset:
    """The same data, as one tensor `x` where a numeric table is too wide for an input a column."""
    if len(data.fields) <= WIDE or any(field.kind not in ("number", "boolean") for field in data.fields):
        return data
    field = Field("x", "FP32", (-1, len(data.fields)), "array", any(field.nullable for field in data.fields))
    test = None if data.test is None else replace(data.test, fields=(field,), columns={"x": _stack(data.test.columns)})
    return replace(data, fields=(field,), columns={"x": _stack(data.columns)}, test=test)


def _stack(columns: Mapping[str, Array]) -> Array:
    """(rows, columns) float32."""
    arrays = list(columns.values())
    found = np.empty((len(arrays[0]), len(arrays)), np.float32)
    for number, array in enumerate(arrays):
        found[:, number] = array
    return found
