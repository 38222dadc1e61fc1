"""The data of one tensor in JSON, nested or flat, to an array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from modelmill.errors import RequestError
from modelmill.runtime.values import beyond_64_bits
from modelmill.serve.inputs import Input, kind
from modelmill.serve.web.lists import Part
from modelmill.signature import NO_DATE, Field

Array = np.ndarray[Any, Any]

AGREE = "Let shape and data agree."


def from_json(where: str, data: Any, shape: list[int], parts: Mapping[str, Part], taken: Input) -> Array:
    """A flat array. shape: as it was said, with which nested lists agree. parts: lists that were taken out.

    Raises RequestError.
    """
    found = _taken_out(where, data, shape, parts, taken) if parts else None
    return _of_lists(where, data, shape, taken) if found is None else found


def _taken_out(where: str, data: Any, shape: list[int], parts: Mapping[str, Part], taken: Input) -> Array | None:
    """The array, where what stands for a list that was taken out is the data, or the one thing in it."""
    axis = 0
    while type(data) is list and len(data) == 1:
        data = data[0]
        axis += 1
    if type(data) is not str or data not in parts:
        return None
    if shape[:axis] != [1] * axis:
        raise RequestError(f"{where}.data", f"has 1 item at each of its first {axis} axes, shape says {shape}", AGREE)
    return _from_part(where, parts[data], shape[axis:], axis > 0, taken)


def _from_part(where: str, part: Part, shape: list[int], nested: bool, taken: Input) -> Array:
    """The array of a list that was taken out. nested: whether it must have the shape, and not be flat."""
    found: list[Array] = []
    size = 0
    for values, _ in part.pieces(f"{where}.data"):
        nested = nested or (bool(values) and type(values[0]) is list)
        sizes = [len(values), *shape[1:]] if nested else [len(values)]
        found.append(_of_lists(where, values, sizes, taken, size))
        size += len(found[-1])
    if size != math.prod(shape):
        message = f"shape {shape} wants {math.prod(shape)} elements, came {size}"
        raise RequestError(f"{where}.data", message, AGREE)
    return np.concatenate(found)


def _of_lists(where: str, data: Any, shape: list[int], taken: Input, before: int = 0) -> Array:
    """The array of what was read whole. before: elements that were read before it."""
    where = f"{where}.data"
    if not isinstance(data, list):
        raise RequestError(where, f"expected a list, came {kind(data)}", "Write [...], for one element, too.")
    flat = data
    if data and isinstance(data[0], list):
        flat = _flatten(where, data, shape)
    if len(flat) != math.prod(shape):
        raise RequestError(where, f"shape {shape} wants {math.prod(shape)} elements, came {len(flat)}", AGREE)
    if taken.field.datatype == "FP16":
        raise RequestError(where, "FP16 cannot be sent as JSON", "Send it as binary data.")
    types = set(map(type, flat))
    if type(None) in types:
        flat = _without_null(where, flat, taken.field)
        types.discard(type(None))
    if not types <= taken.elements:
        wrong = next(value for value in flat if type(value) not in taken.elements)
        hint = f"Every element of {taken.field.name} is a {taken.field.datatype}."
        far = beyond_64_bits(wrong) if taken.dtype.kind in "iu" else ""
        raise RequestError(where, f"expected {taken.field.datatype}, came {far or kind(wrong)}", hint)
    return taken.checked(where, taken.from_values(where, flat, before))


def _flatten(where: str, data: list[Any], shape: list[int]) -> list[Any]:
    """Row-major elements of nested lists that have exactly `shape`."""
    level: list[Any] = [data]
    for axis, size in enumerate(shape):
        if set(map(type, level)) != {list}:
            raise RequestError(where, f"lists are nested unevenly at axis {axis}", f"Nest them as {shape}.")
        if set(map(len, level)) - {size}:
            came = next(len(items) for items in level if len(items) != size)
            raise RequestError(where, f"a list at axis {axis} has {came} items, shape says {size}", AGREE)
        level = list(chain.from_iterable(level))
    return level


def _without_null(where: str, flat: list[Any], field: Field) -> list[Any]:
    if not field.nullable:
        raise RequestError(where, "null is not allowed: the column has no missing values", "Give every value.")
    if field.datatype == "BYTES":
        missing: Any = ""
    elif field.kind == "date":
        missing = NO_DATE
    elif np.dtype(field.dtype).kind == "f":
        missing = math.nan
    else:
        raise RequestError(where, f"null cannot be stored as {field.datatype}", "Give every value.")
    return [missing if value is None else value for value in flat]
