"""Values of a column as numbers, texts, booleans or dates, each with its way of saying "missing"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from modelmill.errors import ContentError
from modelmill.signature import NO_DATE

Array = np.ndarray[Any, Any]
Place = Callable[[int], str]

MISSING = frozenset({"", "#N/A", "#N/A N/A", "#NA", "N/A", "n/a", "<NA>", "NULL", "null", "NaN", "nan", "-NaN", "-nan"})
"""Texts that programs write for a missing value. `NA`, `None` and `?` may be meant, and are kept in texts."""

NUMBER_GAPS = MISSING | {"NA", "None", "?", "-"}
"""Texts that stand for a missing value among numbers, dates and booleans."""

BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False, "t": True, "f": False}
BOOLEANS |= {"y": True, "n": False, "1.0": True, "0.0": False}


WHOLE = re.compile("[+-]?[0-9]{1,20}")
"""Whole numbers, among them all of 64 bits."""


def kind_of(dtype: Any) -> str | None:
    """What a column of a pyarrow type means; "empty" where it holds nothing, None where it cannot be used."""
    from pyarrow import types

    if types.is_dictionary(dtype):
        return kind_of(dtype.value_type)
    if types.is_null(dtype):
        return "empty"
    if types.is_boolean(dtype):
        return "boolean"
    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype) or types.is_duration(dtype):
        return "number"
    if types.is_date(dtype) or types.is_timestamp(dtype):
        return "date"
    if is_text(dtype) or types.is_time(dtype):
        return "category"
    return None


def is_text(dtype: Any) -> bool:
    """Whether a pyarrow type holds text."""
    from pyarrow import types

    return bool(types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype))


def _plain(column: Any) -> Any:
    """A column as one array without a dictionary."""
    import pyarrow
    from pyarrow import types

    array = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if isinstance(array, pyarrow.ChunkedArray):
        array = pyarrow.concat_arrays(array.chunks) if array.num_chunks else pyarrow.array([], array.type)
    return array.cast(array.type.value_type) if types.is_dictionary(array.type) else array


def texts(column: Any) -> Array:
    """(rows,) object array of str, "" where a value is missing. Equal texts are one object, to save memory."""
    import pyarrow
    from pyarrow import types

    array = _plain(column)
    if types.is_boolean(array.type):
        array = array.cast(pyarrow.string())
    coded = (array if is_text(array.type) else array.cast(pyarrow.string())).dictionary_encode()
    known = ["" if text is None or text.strip() in MISSING else text.strip() for text in coded.dictionary.to_pylist()]
    values = np.array([*known, ""], dtype=object)
    found: Array = values[coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)]
    return found


def integers(column: Any) -> Array | None:
    """(rows,) int64, where the column holds whole numbers and no gap; else None."""
    array = _plain(column)
    return None if is_text(array.type) else exact(array, "int64")


def exact(column: Any, dtype: str) -> Array | None:
    """(rows,) of a whole dtype, where the column holds numbers that fit, or texts of them, and no gap; else None."""
    import pyarrow
    from pyarrow import types

    array = _plain(column)
    if is_text(array.type):
        read, refused, _ = _by_text(texts(array), partial(_whole, bounds=np.iinfo(dtype)), dtype)
        return None if refused else read
    if array.null_count or not types.is_integer(array.type):
        return None
    try:
        found: Array = array.cast(pyarrow.from_numpy_dtype(np.dtype(dtype))).to_numpy(zero_copy_only=False)
    except pyarrow.ArrowInvalid:
        return None
    return found


def numbers(column: Any, place: Place, name: str) -> Array:
    """(rows,) float64, NaN where a value is missing. Raises ContentError at the first text that is no number."""
    import pyarrow
    from pyarrow import types

    array = _plain(column)
    if is_text(array.type):
        found = _by_text(texts(array), _number, np.float64)
        refused = _refused(found)
        if refused is not None:
            raise _wrong(place(refused), name, texts(array)[refused], "a number")
        return found[0]
    if types.is_duration(array.type):
        unit = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[array.type.unit]
        return numbers(array.cast(pyarrow.int64()), place, name) / unit
    if kind_of(array.type) not in ("number", "boolean", "empty"):
        raise _wrong(place(0), name, f"{array.type} values", "a number")
    if types.is_null(array.type):
        return np.full(len(array), np.nan)
    if types.is_boolean(array.type):
        array = array.cast(pyarrow.int8())
    values: Array = array.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values.astype(np.float64, copy=False)


def booleans(column: Any, place: Place, name: str) -> Array:
    """(rows,) float64 of 0 and 1, NaN where a value is missing. Raises ContentError at the first other value."""
    array = _plain(column)
    if is_text(array.type):
        found = _by_text(texts(array), _boolean, np.float64)
        refused = _refused(found)
        if refused is not None:
            raise _wrong(place(refused), name, texts(array)[refused], "true or false")
        return found[0]
    values = numbers(array, place, name)
    wrong = ~(np.isnan(values) | (values == 0) | (values == 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _wrong(place(row), name, f"{values[row]:g}", "true or false")
    return values


def dates(column: Any, place: Place, name: str) -> Array:
    """(rows,) int64 milliseconds UTC, NO_DATE where a value is missing; a date without a zone is taken as UTC."""
    import pyarrow
    from pyarrow import types

    array = _plain(column)
    if is_text(array.type):
        found = _by_text(texts(array), milliseconds, np.int64)
        refused = _refused(found)
        if refused is not None:
            raise _wrong(
                place(refused), name, texts(array)[refused], "a date such as 2026-01-31 or 2026-01-31T12:00:00Z"
            )
        return found[0]
    if kind_of(array.type) not in ("date", "number", "empty"):
        raise _wrong(place(0), name, f"{array.type} values", "a date")
    if types.is_null(array.type):
        return np.full(len(array), NO_DATE, np.int64)
    if kind_of(array.type) == "date":
        zone = getattr(array.type, "tz", None)
        array = array.cast(pyarrow.timestamp("ms", tz=zone), safe=False)
    values: Array = array.cast(pyarrow.int64(), safe=False).fill_null(NO_DATE).to_numpy(zero_copy_only=False)
    return values.astype(np.int64, copy=False)


def milliseconds(text: str) -> int | None:
    """ISO text as milliseconds since 1970 UTC; NO_DATE for a missing one, None for what is no date.

    >>> milliseconds("1970-01-02")
    86400000
    """
    if text in NUMBER_GAPS:
        return NO_DATE
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def _number(text: str) -> float | None:
    if text in NUMBER_GAPS:
        return np.nan
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _whole(text: str, bounds: Any) -> int | None:
    value = int(text) if WHOLE.fullmatch(text) else None
    return value if value is not None and bounds.min <= value <= bounds.max else None


def _boolean(text: str) -> float | None:
    if text in NUMBER_GAPS:
        return np.nan
    known = BOOLEANS.get(text.lower())
    return None if known is None else float(known)


def _by_text(
    values: Array, read: Callable[[str], float | int | None], dtype: Any
) -> tuple[Array, frozenset[str], Array]:
    """Values read text by text, each distinct text once; the texts that were refused; the texts themselves."""
    known = {text: read(text) for text in set(values.tolist())}
    refused = frozenset(text for text, value in known.items() if value is None)
    found = np.fromiter((known[text] or 0 for text in values.tolist()), dtype, len(values))
    return found, refused, values


def _refused(found: tuple[Array, frozenset[str], Array]) -> int | None:
    """The first row whose text was refused."""
    _, refused, values = found
    if not refused:
        return None
    return next(row for row, text in enumerate(values.tolist()) if text in refused)


def mostly_numbers(values: Array) -> tuple[float, str]:
    """The share of numbers among the texts that are there, and the first distinct text that is none.

    >>> mostly_numbers(np.array(["1", "2", "3", "x", ""], dtype=object))
    (0.75, 'x')
    """
    counts: dict[str, int] = {}
    for text in values.tolist():
        counts[text] = counts.get(text, 0) + 1
    there = {text: count for text, count in counts.items() if text not in NUMBER_GAPS}
    others = [text for text in there if _number(text) is None]
    total = sum(there.values())
    return 1 - sum(there[text] for text in others) / max(total, 1), others[0] if others else ""


def distinct(values: Iterable[Any]) -> list[Any]:
    """The distinct values, sorted."""
    return sorted(set(values))


def _wrong(where: str, name: str, came: Any, wanted: str) -> ContentError:
    return ContentError(
        where,
        f"the value of {name} is {came!r}; expected {wanted}",
        f'Correct the value, or state another type, such as types = {{ "{name}" = "category" }}.',
    )
