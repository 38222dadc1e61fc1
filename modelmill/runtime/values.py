"""Values of JSON to one column of a field: all at once where all are right, else one by one to say which is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from modelmill.contracts import Array
from modelmill.errors import RequestError
from modelmill.signature import NO_DATE, Field

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NUMBERS = frozenset({int, float})

LARGEST = {name: float(np.finfo(name).max) for name in ("float16", "float32", "float64")}

FEW = 64
"""Values up to which Python's own loop is quicker than numpy's start."""


def to_column(field: Field, values: Sequence[Any], first: int = 0) -> Array:
    """The column of a field, the rows first; raises RequestError for the first value that does not fit.

    first: the number of the first row.

    >>> to_column(Field("age", "FP32", (-1, 1)), [1.5, [2.5]]).tolist()
    [[1.5], [2.5]]
    """
    flat = _flat(field, values) if field.row else values
    column = None if flat is None else _at_once(field, flat)
    if column is None:
        column = _array(field, _one_by_one(field, values, first))
    return column.reshape(len(values), *_sizes(field, values[0])) if field.row else column


def _one_by_one(field: Field, values: Sequence[Any], first: int) -> list[Any]:
    """The elements of all values, row after row; what the first row's open sizes are, those of the others must be."""
    flat: list[Any] = []
    shape = field.row
    for number, value in enumerate(values, first):
        where = f"rows[{number}].{field.name}"
        if number == first and -1 in shape:
            _into([], field, value, shape, where)
            shape = _sizes(field, value)
        _into(flat, field, value, shape, where)
    return flat


def _sizes(field: Field, value: Any) -> tuple[int, ...]:
    """The shape of a row's value, where the field leaves sizes open."""
    return tuple(size if size >= 0 else _length(value, axis) for axis, size in enumerate(field.row))


def _length(value: Any, axis: int) -> int:
    for _ in range(axis):
        value = value[0] if len(value) else ()
    return len(value)


def _flat(field: Field, values: Sequence[Any]) -> Sequence[Any] | None:
    """The numbers of nested lists end to end; None where the lists are not what the shape says."""
    if field.is_column and list not in set(map(type, values)):
        return values
    for size in field.row:
        if set(map(type, values)) != {list}:
            return None
        lengths = set(map(len, values))
        if len(lengths) > 1 or (size >= 0 and lengths != {size}):
            return None
        values = list(chain.from_iterable(values))
    return values


def _at_once(field: Field, values: Sequence[Any]) -> Array | None:
    """The column, where every value is of a plain JSON type that the field takes and in bounds; else None."""
    kinds = set(map(type, values))
    if field.kind == "date":
        return _dates(field, values, kinds)
    if field.nullable and type(None) in kinds:
        kinds.discard(type(None))
        values = [_gap(field) if value is None else value for value in values]
    if field.datatype == "BYTES":
        return _array(field, values) if kinds <= {str} and (field.nullable or "" not in values) else None
    if field.is_boolean:
        return _array(field, values) if kinds <= {bool} else None
    if field.datatype.startswith("FP"):
        return _floats(field, values) if kinds <= NUMBERS else None
    return _integers(field, values) if kinds == {int} else None


def _floats(field: Field, values: Sequence[Any]) -> Array | None:
    largest = LARGEST[field.dtype]
    if len(values) <= FEW:
        known = [value for value in values if value == value] if field.nullable else values
        inside = all(map(largest.__ge__, map(abs, known)))
        return np.array(values, field.dtype) if inside else None
    try:
        wide = np.array(values, np.float64)
    except OverflowError:
        return None
    # A comparison with NaN is false: a gap passes only where gaps may be.
    within = np.abs(wide) <= largest
    if not within.all() and not (field.nullable and (within | np.isnan(wide)).all()):
        return None
    return wide.astype(field.dtype)


def _integers(field: Field, values: Sequence[Any]) -> Array | None:
    bounds = np.iinfo(field.dtype)
    if min(values) < bounds.min or max(values) > bounds.max:
        return None
    return np.array(values, field.dtype)


def _dates(field: Field, values: Sequence[Any], kinds: set[type]) -> Array | None:
    if not kinds <= ({str, type(None)} if field.nullable else {str}):
        return None
    try:
        return np.array([NO_DATE if value is None else milliseconds(value) for value in values], np.int64)
    except ValueError:
        return None


def milliseconds(text: str) -> int:
    """The milliseconds UTC of an ISO date, with or without time and offset; ValueError where it is none.

    >>> milliseconds("1970-01-02"), milliseconds("1970-01-01T01:00:00.5+01:00")
    (86400000, 500)
    """
    return _since_epoch(datetime.fromisoformat(text))


def _since_epoch(moment: datetime) -> int:
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def _into(flat: list[Any], field: Field, value: Any, shape: tuple[int, ...], where: str) -> None:
    """Append one value, or those of nested lists, each checked by itself."""
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.datetime64):
        value = value.tolist()
    if not shape or (field.is_column and not isinstance(value, list | tuple)):
        flat.append(_one(field, value, where))
        return
    wanted = f"a list of {shape[0]}" if shape[0] >= 0 else "a list"
    if not isinstance(value, list | tuple):
        raise _wrong(where, came(value), wanted)
    if shape[0] >= 0 and len(value) != shape[0]:
        raise _wrong(where, f"a list of {len(value)}", wanted)
    for number, item in enumerate(value):
        _into(flat, field, item, shape[1:], f"{where}[{number}]")


def _one(field: Field, value: Any, where: str) -> Any:
    """The value as the column holds it."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or (field.datatype == "BYTES" and value == ""):
        if not field.nullable:
            raise _wrong(where, came(value), wanted(field), "This input takes no missing values.")
        return _gap(field)
    if field.kind == "date":
        return _date(value, where, field)
    if field.datatype == "BYTES":
        if isinstance(value, str):
            return str(value)
    elif isinstance(value, bool):
        if field.is_boolean:
            return value
    elif field.datatype != "BOOL" and isinstance(value, int | float):
        if _fits(field, value):
            return value
        if field.datatype.startswith("FP") and field.kind != "boolean":
            raise _wrong(where, came(value), f"a number up to {LARGEST[field.dtype]:.3g}")
        if not field.datatype.startswith("FP"):
            raise _wrong(where, beyond_64_bits(value) or came(value), wanted(field))
    raise _wrong(where, came(value), wanted(field))


EXACT = 2.0**53
"""Up to here every whole number is a float of its own."""


def _fits(field: Field, value: float) -> bool:
    if field.is_boolean:
        return value in (0, 1)
    if field.datatype.startswith("FP"):
        return abs(value) <= LARGEST[field.dtype]
    bounds = np.iinfo(field.dtype)
    whole = isinstance(value, int) or (value.is_integer() and abs(value) <= EXACT)
    return whole and bounds.min <= int(value) <= bounds.max


def _date(value: Any, where: str, field: Field) -> int:
    if isinstance(value, np.datetime64):
        found = int(value.astype("datetime64[ms]").astype(np.int64))
    elif isinstance(value, datetime):
        found = _since_epoch(value)
    elif isinstance(value, date):
        found = _since_epoch(datetime(value.year, value.month, value.day, tzinfo=UTC))
    else:
        try:
            found = milliseconds(value)
        except (ValueError, TypeError):
            raise _wrong(where, came(value), wanted(field)) from None
    if found == NO_DATE and not field.nullable:
        raise _wrong(where, "a missing date", wanted(field))
    return found


def _gap(field: Field) -> Any:
    """What stands for a missing value."""
    if field.kind == "date":
        return NO_DATE
    return "" if field.datatype == "BYTES" else math.nan


def _array(field: Field, values: Sequence[Any]) -> Array:
    if field.datatype == "BYTES":
        column = np.empty(len(values), object)
        column[:] = values
        return column
    return np.array(values, field.dtype)


def wanted(field: Field) -> str:
    """What a field takes, as a person would say it."""
    if field.kind == "date":
        text = "an ISO date such as 2024-05-31 or 2024-05-31T12:00:00Z"
    elif field.datatype == "BYTES":
        text = "text"
    elif field.is_boolean:
        text = "true or false"
    elif field.datatype.startswith("FP"):
        text = "a number"
    else:
        bounds = np.iinfo(field.dtype)
        text = f"a whole number from {bounds.min} to {bounds.max}"
    return f"{text} or null" if field.nullable else text


def came(value: Any) -> str:
    """A value as it looked in JSON, cut where it is long."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, UnicodeError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def beyond_64_bits(value: object) -> str:
    """Words for a whole number of JSON that no 64 bits hold, which is read as a float near it; '' for any other.

    >>> beyond_64_bits(float(2**64)), beyond_64_bits(2**64 - 1)
    ('a number beyond 64 bits, about 1.8446744073709552e+19', '')
    """
    is_beyond = isinstance(value, float) and value.is_integer() and not -(2.0**63) < value < 2.0**64
    return f"a number beyond 64 bits, about {value}" if is_beyond else ""


def _wrong(where: str, found: str, expected: str, hint: str = "") -> RequestError:
    return RequestError(where, f"came {found}, expected {expected}", hint)
