"""Rows of JSON to columns of tensors, and a model's outputs back to JSON: strict, and quick where all is well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
from msgspec import structs

from modelmill.contracts import Array, Outputs
from modelmill.dataset import Dataset
from modelmill.errors import RequestError
from modelmill.runtime.axes import fits, rows_first, tensor
from modelmill.runtime.values import came, to_column
from modelmill.signature import NO_DATE, Field, Signature

ELEMENTS = 16_384
"""So many elements of an answer are written to JSON at a time."""

RENAMED = "_in"
"""What reading adds to a column whose name an output has."""


def to_columns(rows: Sequence[Any], signature: Signature) -> dict[str, Array]:
    """The tensors of JSON rows: objects by name, or lists in signature order; the model's inputs by name.

    A model with one array or image takes that array as a row, too. Raises RequestError, which says which row, which
    field, what came and what was wanted.

    >>> signature = Signature("regress", (Field("x", "FP32"), Field("n", "INT64")), ())
    >>> to_columns([{"x": 0.5, "n": 3}, [1, 4]], signature)["x"].tolist()
    [0.5, 1.0]
    """
    columns = rows_apart(rows, signature)
    return {field.name: tensor(field, columns[field.name]) for field in signature.inputs}


def to_columns_in_pieces(pieces: Iterable[Sequence[Any]], signature: Signature) -> dict[str, Array]:
    """As `to_columns`, of rows that come some at a time, in lists of one or more; at least one comes."""
    found: list[dict[str, Array]] = []
    as_first = signature
    count = 0
    for rows in pieces:
        found.append(rows_apart(rows, as_first, count))
        count += len(rows)
        if len(found) == 1:
            as_first = structs.replace(
                signature, inputs=tuple(_as_sized(f, found[0][f.name]) for f in signature.inputs)
            )
    return {f.name: tensor(f, np.concatenate([columns[f.name] for columns in found])) for f in signature.inputs}


def _as_sized(field: Field, column: Array) -> Field:
    """The field with the sizes that a row of this column has."""
    sizes = list(column.shape[1:])
    shape = tuple(size if axis == field.axis else sizes.pop(0) for axis, size in enumerate(field.shape))
    return structs.replace(field, shape=shape)


def rows_apart(rows: Sequence[Any], signature: Signature, first: int = 0) -> dict[str, Array]:
    """As `to_columns`, the rows first in every column, wherever the graph has them. first: the first one's number."""
    if not isinstance(rows, list | tuple | np.ndarray):
        raise RequestError("rows", f"came {came(rows)}, expected a list of rows", "Write [{...}, {...}].")
    if not len(rows):
        raise RequestError("rows", "came no rows, expected at least one", "Write [{...}, {...}].")
    fields = signature.inputs
    if set(map(type, rows)) == {dict}:
        columns = _of_objects(_under_their_own_names(rows, signature), fields, first)
    else:
        columns = zip(*(_values(row, number, fields) for number, row in enumerate(rows, first)), strict=True)
    return {field.name: to_column(field, values, first) for field, values in zip(fields, columns, strict=True)}


def _under_their_own_names(rows: Sequence[dict[str, Any]], signature: Signature) -> Sequence[dict[str, Any]]:
    """Rows in which a column that had to be renamed, since an output has its name, may go by the name it had."""
    taken = {"features", *(field.name for field in signature.outputs)}
    renamed = {name[: -len(RENAMED)]: name for name in (f.name for f in signature.inputs) if name.endswith(RENAMED)}
    renamed = {old: new for old, new in renamed.items() if old in taken}
    if not renamed:
        return rows
    return [{renamed.get(name, name): value for name, value in row.items()} for row in rows]


def _of_objects(rows: Sequence[dict[str, Any]], fields: Sequence[Field], first: int) -> Iterable[Sequence[Any]]:
    """The values of every field, all rows being objects."""
    names = [field.name for field in fields]
    try:
        if len(names) == 1:
            columns: list[Any] = [[row[names[0]] for row in rows]]
        else:
            columns = list(zip(*map(itemgetter(*names), rows), strict=True))
    except KeyError:
        columns = []
    if not columns or any(len(row) != len(names) for row in rows):
        for number, row in enumerate(rows, first):
            _check_keys(row, number, names)
    return columns


def _check_keys(row: Mapping[str, Any], number: int, names: Sequence[str]) -> None:
    for name in names:
        if name not in row:
            raise RequestError(f"rows[{number}]", f"has no {name!r}", "A missing value is null, where it is allowed.")
    for name in row:
        if name not in names:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise RequestError(f"rows[{number}]", f"has {came(name)}, which is no input", f"Inputs: {shown}.")


def _values(row: Any, number: int, fields: Sequence[Field]) -> Sequence[Any]:
    """The values of one row, in signature order."""
    if isinstance(row, dict):
        _check_keys(row, number, [field.name for field in fields])
        return [row[field.name] for field in fields]
    if isinstance(row, np.ndarray):
        row = row.tolist()
    if len(fields) == 1 and _is_bare(row, fields[0]):
        return [row]
    if not isinstance(row, list | tuple):
        raise RequestError(
            f"rows[{number}]", f"came {came(row)}, expected an object or a list", "Write {...} or [...]."
        )
    if len(row) != len(fields):
        message = f"came a list of {len(row)}, expected {len(fields)} in the order of the signature"
        raise RequestError(f"rows[{number}]", message, "Or write an object by name.")
    return row


def _is_bare(row: Any, field: Field) -> bool:
    """Whether a row is the one array itself, and not a list that holds it."""
    axes = len(field.row)
    depth = 0
    while isinstance(row, list | tuple) and depth <= axes:
        depth += 1
        row = row[0] if row else None
    return axes > 0 and depth == axes


def by_row(outputs: Outputs, signature: Signature, rows: int) -> dict[str, Array]:
    """The tensors that a graph gave for so many rows, the rows first in every one."""
    axes = {field.name: field.axis for field in signature.outputs}
    return {name: rows_first(values, axes[name], rows) for name, values in outputs.items()}


def to_json(outputs: Outputs, signature: Signature) -> list[dict[str, Any]]:
    """One object a row: `{"label", "probabilities": {NAME: P}}` or `{"value"}`; the rows are first in every output.

    >>> signature = Signature("classify", (), (Field("label", "BYTES"),), ("a", "b"))
    >>> to_json({"label": np.array(["b"], object), "probabilities": np.array([[0.1, 0.9]], np.float32)}, signature)
    [{'label': 'b', 'probabilities': {'a': 0.1, 'b': 0.9}}]
    """
    labels = [str(label) for label in signature.classes]
    columns: list[list[Any]] = []
    for name, values in outputs.items():
        if is_by_class(name, values, signature):
            columns.append([dict(zip(labels, row, strict=True)) for row in as_values(values)])
        else:
            columns.append(as_values(bare(name, values, signature)))
    names = list(outputs)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def is_by_class(name: str, values: Array, signature: Signature) -> bool:
    """Whether an output, the rows first, has a probability for every class, which goes by the name of that."""
    return name.rpartition(".")[2] == "probabilities" and values.shape[1:] == (len(signature.classes),)


def bare(name: str, values: Array, signature: Signature) -> Array:
    """An output as people read it, the rows first: (rows,) where a row has one element, such as (rows, 1).

    >>> outputs = (Field("y", "FP32", (-1, 1)), Field("z", "FP32", (-1, -1)))
    >>> [bare(name, np.ones((2, 1)), Signature("compute", (), outputs)).shape for name in ("y", "z")]
    [(2,), (2, 1)]
    """
    single = any(field.name == name and field.is_column for field in signature.outputs)
    return values.reshape(-1) if single and values.size == len(values) else values


def to_texts(outputs: Outputs, signature: Signature, count: int) -> Iterator[bytes]:
    """What `to_json` gives for so many rows, as the JSON between its brackets, some rows at a time: others may run.

    >>> list(to_texts({"value": np.array([0.5, 2])}, Signature("regress", (), (Field("value", "FP64"),)), 2))
    [b'{"value":0.5},{"value":2.0}']
    """
    size = max(1, ELEMENTS * count // max(1, sum(values.size for values in outputs.values())))
    for start in range(0, count, size):
        part = to_json({name: values[start : start + size] for name, values in outputs.items()}, signature)
        yield (b"," if start else b"") + orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def as_values(values: Array) -> list[Any]:
    """An array as values of JSON: numbers of less than 64 bits as the shortest text that stands for them has them."""
    if values.dtype.kind != "f" or values.dtype.itemsize == 8:
        return list(values.tolist())
    shortest = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    return list(orjson.loads(shortest))


def from_dataset(dataset: Dataset) -> dict[str, Array]:
    """The columns of a data set as the tensors of one call. Raises RequestError where one call cannot take them."""
    return {field.name: tensor(field, dataset.columns[field.name]) for field in dataset.fields}


def check(columns: Mapping[str, Array], signature: Signature) -> None:
    """Refuse tensors that are not what the signature says: names, types, shapes, equal rows, missing values."""
    fields = {field.name: field for field in signature.inputs}
    for name in columns:
        if name not in fields:
            raise RequestError("inputs", f"{name!r} is no input", f"Inputs: {', '.join(list(fields)[:8])}.")
    for name, field in fields.items():
        if name not in columns:
            raise RequestError("inputs", f"{name!r} is not there", "Give every input.")
        _check_column(columns[name], field)
    count(columns, signature.inputs)


def count(columns: Mapping[str, Array], fields: Sequence[Field]) -> int:
    """How many rows tensors of the right shapes hold. Raises RequestError where they do not hold as many each."""
    lengths = {field.name: columns[field.name].shape[field.axis] for field in fields if field.axis is not None}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:8])
        raise RequestError("inputs", f"have different numbers of rows: {shown}", "Give every input the same rows.")
    return next(iter(lengths.values()), 1)


def _check_column(column: Array, field: Field) -> None:
    where = f"inputs.{field.name}"
    if column.dtype != np.dtype(field.dtype):
        raise RequestError(where, f"came {column.dtype}, expected {field.datatype}", f"Give it as {field.dtype}.")
    if not fits(column.shape, field.shape):
        raise RequestError(where, f"came the shape {list(column.shape)}, expected {list(field.shape)}", "-1 is any.")
    if field.datatype == "BYTES" and not all(isinstance(value, str) for value in column.flat):
        raise RequestError(where, "holds something that is no text", "Give every value as a string.")
    if not field.nullable and _has_gaps(column, field):
        raise RequestError(where, "has missing values, which this input does not take", "Give every value.")


def _has_gaps(column: Array, field: Field) -> bool:
    if column.dtype == object:
        return "" in column.ravel().tolist()
    if column.dtype.kind == "f":
        return bool(np.isnan(column).any())
    return field.kind == "date" and bool((column == NO_DATE).any())
