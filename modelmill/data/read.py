"""Data as a spec states them, and rows for a model that is already made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelmill.data.archive import read_arrays
from modelmill.data.cells import Array, Place, booleans, dates, exact, numbers, texts
from modelmill.data.columnar import read_parquet
from modelmill.data.delimited import Dialect, is_row, read_parts, row_for_names, start
from modelmill.data.files import existing, parts, source_of
from modelmill.data.idx import labels_of, pair, read_idx
from modelmill.data.json_lines import is_json_lines, read_lines
from modelmill.data.naming import as_input, clean
from modelmill.data.rows import Rows
from modelmill.data.source import BUILTINS
from modelmill.data.table import missing
from modelmill.data.target import for_task
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, SourceError, UnknownName
from modelmill.method import decode
from modelmill.runtime.axes import fits
from modelmill.runtime.values import beyond_64_bits, wanted
from modelmill.signature import Field, Signature


def read(table: Mapping[str, Any]) -> Dataset:
    """The data set that the `[data]` table of a spec describes, with target, types, roles and stated test set.

    >>> read({"method": "builtin", "name": "iris"}).rows
    150

    Raises UsageError for a setting or a column that does not exist, SourceError and ContentError for the files.
    """
    source = decode("data", table, "data")
    found = source()
    assert isinstance(found, Dataset), "a source gives a data set"
    return found


def read_rows(path: str, as_text: Sequence[str] = ()) -> Rows:
    """The table in a CSV or Parquet file or in a folder of parts, as it stands."""
    found = existing(path)
    if source_of(found) == "csv":
        return read_parts(found, Dialect(), as_text)
    if source_of(found) == "parquet":
        return read_parquet(found)
    raise SourceError(path, "is no table", "Give a CSV or a Parquet file.")


def read_for(signature: Signature, path: str | Path, labeled: bool = False, learned: bool = False) -> Dataset:
    """Rows from a file (or a built-in set) for a model that is already made: the fields of its signature, strictly.

    Columns that the model does not take are left out. With `labeled`, the target is read as well. What is `learned`
    from, or chosen by, are training rows: a test set that is stated comes along as `test`. Else it is what is read of
    IDX files, where there is one.
    Raises ContentError with the line or row of a value that does not fit, UnknownName for a column that is not there.
    """
    if str(path) in BUILTINS:
        return _builtin(signature, str(path), labeled)
    found = existing(str(path))
    if is_json_lines(found) and not labeled:
        return read_lines(signature, found)
    source = source_of(found)
    if source in ("npz", "idx"):
        return _from_arrays(signature, found, source, labeled, learned)
    return fit_rows(signature, _table_for(signature, found, source), labeled)


def fit_rows(signature: Signature, rows: Rows, labeled: bool = False) -> Dataset:
    """The rows of a table as a model's inputs.

    Raises ContentError with the place of a value that does not fit, UnknownName for a column that is not there.
    """
    if signature.is_block(rows.names):
        field = signature.inputs[0]
        columns = {field.name: _block(signature, field, rows)}
    else:
        columns = {
            field.name: conform(field, rows, column_of(field, rows.names, rows.origin)) for field in signature.inputs
        }
    target = _target(signature, rows) if labeled else None
    return Dataset(signature.inputs, columns, target, signature.target, origin=rows.origin)


def _builtin(signature: Signature, name: str, labeled: bool) -> Dataset:
    data = for_task(read({"method": "builtin", "name": name}), signature.task)
    for field in signature.inputs:
        if field.name not in data.columns:
            error = UnknownName.among(name, "column", field.name, data.columns)
            raise UnknownName(name, f"the column {field.name!r} is missing", error.hint)
    columns = {field.name: _fit(field, data.columns[field.name], Path(name)) for field in signature.inputs}
    target = data.target if labeled else None
    return Dataset(signature.inputs, columns, target, signature.target, origin=name)


def _table_for(signature: Signature, path: Path, source: str) -> Rows:
    if source == "parquet":
        return read_parquet(path)
    first = parts(path, "csv")[0]
    _, header, line = start(first, Dialect())
    names = names_of(signature, first, header, line)
    return read_parts(path, Dialect(), [*texts_of(signature, names), signature.target])


def names_of(signature: Signature, path: Path, header: Sequence[str], line: int) -> list[str]:
    """The names of the columns of a text file by its header, which ends on a line.

    Raises ContentError for a row in its place where nobody would notice: a model of one tensor looks at no names.
    """
    if signature.is_block(header) and signature.inputs[0].datatype != "BYTES" and is_row(header):
        raise ContentError(f"{path} line {line}", *row_for_names(header))
    return clean(header, path.name)[0]


def texts_of(signature: Signature, names: Sequence[str]) -> list[str]:
    """The columns of a text file that keep their text as it is written; read as numbers, UINT64 would be rounded."""
    if signature.is_block(names):
        return list(names) if signature.inputs[0].datatype in ("BYTES", "UINT64") else []
    wanted = [
        field.name for field in signature.inputs if field.kind in ("category", "date") or field.datatype == "UINT64"
    ]
    return [name for name in names if as_input(name, names) in wanted]


def column_of(field: Field, names: Sequence[str], origin: str) -> str:
    """The name in the file of an input: its own, or the one it was renamed from. Raises UnknownName for none."""
    for name in names:
        if name == field.name or as_input(name, names) == field.name:
            return name
    error = UnknownName.among(origin, "column", field.name, names)
    raise UnknownName(origin, f"the column {field.name!r} is missing", error.hint)


def conform(field: Field, rows: Rows, name: str) -> Array:
    """A column as the field wants it. Raises ContentError at the first value that does not fit."""
    if not field.is_column:
        raise _no_cells(field, rows)
    if field.datatype == "BYTES":
        values = texts(rows.table[name])
    elif field.kind == "date":
        values = _cells(dates, rows, name)
    elif field.is_boolean:
        values = _cells(booleans, rows, name)
    else:
        found = exact(rows.table[name], field.dtype) if np.dtype(field.dtype).kind in "iu" else None
        values = _cells(numbers, rows, name) if found is None else found
    return _cast(field, values, rows, name).reshape(len(values), *field.row)


def _cells(read: Callable[[Any, Place, str], Array], rows: Rows, name: str) -> Array:
    """A column, read for a model whose types are settled: other ones cannot be stated, as they can for training."""
    try:
        return read(rows.table[name], rows.place, name)
    except ContentError as error:
        raise ContentError(error.where, error.message, "Correct the value.") from None


def _no_cells(field: Field, rows: Rows) -> ContentError:
    message = f"a table cannot hold {field.name!r}, of which a row has the shape {list(field.row)}"
    return ContentError(rows.origin, message, "Give an .npz file.")


def _cast(field: Field, values: Array, rows: Rows, name: str) -> Array:
    gaps = missing(values, field)
    if gaps.any() and not field.nullable:
        where = rows.place(int(np.argmax(gaps)))
        raise ContentError(where, f"{name} is missing; the model takes no missing values", "Fill in the value.")
    if np.dtype(field.dtype).kind in "iu" and values.dtype.kind == "f":
        bounds = np.iinfo(field.dtype)
        broken = (values != np.floor(values)) | (values < bounds.min) | (values >= bounds.max + 1.0)
        if broken.any():
            row = int(np.argmax(broken))
            came = beyond_64_bits(float(values[row])) or f"{values[row]:.15g}"
            raise ContentError(rows.place(row), f"{name} is {came}; expected {wanted(field)}", "Correct it.")
    with np.errstate(over="ignore"):
        found: Array = values.astype(field.dtype, copy=False)
    if found.dtype.kind == "f" and np.isinf(found).any():
        row = int(np.argmax(np.isinf(found)))
        raise ContentError(rows.place(row), f"{name} is {values[row]:g}; expected a finite number", "Correct it.")
    return found


def _block(signature: Signature, field: Field, rows: Rows) -> Array:
    """One tensor from the columns of a table, in their order, without the target."""
    names = [name for name in rows.names if name != signature.target]
    if not field.width:
        raise _no_cells(field, rows)
    if field.width not in (-1, len(names)):
        message = f"has {len(names)} columns beside the target; expected {field.width}, which are {field.name} together"
        raise ContentError(rows.origin, message, "Give the columns that the model was made from, in their order.")
    found = np.empty((rows.table.num_rows, len(names)), field.dtype)
    for number, name in enumerate(names):
        found[:, number] = conform(msgspec.structs.replace(field, name=name, shape=(-1,), axis=0), rows, name)
    return found if field.width < 0 else found.reshape(len(found), *field.row)


def _target(signature: Signature, rows: Rows) -> Array:
    if signature.target not in rows.names:
        raise UnknownName.among(rows.origin, "target column", signature.target, rows.names)
    column = rows.table[signature.target]
    text = bool(signature.classes) and isinstance(signature.classes[0], str)
    values = texts(column) if text else _cells(numbers, rows, signature.target)
    gaps = missing(values, Field(signature.target, "BYTES" if text else "FP32"))
    if gaps.any():
        where = rows.place(int(np.argmax(gaps)))
        raise ContentError(where, f"the target {signature.target} is missing", "Leave the row out.")
    return values if text else _numbers(values, signature, f"{rows.origin}: {signature.target}")


def _from_arrays(signature: Signature, path: Path, source: str, labeled: bool, learned: bool) -> Dataset:
    if source == "idx":
        order = ("train", "t10k") if learned else ("t10k", "train")
        arrays = _idx(path, order, labeled)
        stated = _idx(path, ("t10k",), labeled) if learned and _is_both(path) else {}
    else:
        arrays = read_arrays(path)
        ended = {name: name.removesuffix("_test") for name in arrays if learned and name.endswith("_test")}
        stated = {whole: arrays[name] for name, whole in ended.items() if whole in arrays}
    data = arrays_for(signature, arrays, path, labeled)
    return replace(data, test=arrays_for(signature, stated, path, labeled)) if stated else data


def _is_both(path: Path) -> bool:
    """Whether a folder of IDX files has rows to learn from and a test set."""
    return path.is_dir() and None not in (pair(path, "train"), pair(path, "t10k"))


def arrays_for(signature: Signature, arrays: Mapping[str, Array], path: Path, labeled: bool = False) -> Dataset:
    """Rows for a model from arrays by the names of its inputs, or x, and y with `labeled`; `path` is for errors."""
    held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
    columns = {}
    for field in signature.inputs:
        name = field.name if field.name in arrays or len(signature.inputs) > 1 else "x"
        if name not in arrays:
            raise ContentError(str(path), f"holds no array {field.name!r}, but {held}", "Name the array so, or x.")
        columns[field.name] = _fit(field, arrays[name], path)
    columns = _once_for_all(signature, columns)
    data = Dataset(signature.inputs, columns, None, signature.target, origin=path.name)
    if len({len(column) for column in columns.values()}) > 1:
        raise ContentError(str(path), f"the arrays are of different lengths: {held}", "Give one value a row.")
    return replace(data, target=_array_target(signature, arrays, data.rows, path)) if labeled else data


def _once_for_all(signature: Signature, columns: dict[str, Array]) -> dict[str, Array]:
    """The columns, where a value that stands once in the file is every row's."""
    once = {field.name for field in signature.inputs if field.axis is None and len(columns[field.name]) == 1}
    rows = max((len(column) for name, column in columns.items() if name not in once), default=1)
    spread = {name: np.broadcast_to(columns[name], (rows, *columns[name].shape[1:])) for name in once}
    return {**columns, **spread}


def _idx(path: Path, order: Sequence[str], labeled: bool) -> dict[str, Array]:
    """The arrays of a file, or of the first of these sets that a folder holds."""
    files = next(filter(None, (pair(path, stem) for stem in order)), None) if path.is_dir() else None
    images = files[0] if files else path
    found = {"x": read_idx(images)}
    if labeled:
        found["y"] = read_idx(files[1] if files else labels_of(images))
    return found


def _fit(field: Field, array: Array, path: Path) -> Array:
    where = f"{path}: {field.name}"
    if field.axis is None and fits(array.shape, field.shape):
        array = array[None]
    if field.is_column and array.ndim and array.size == len(array):
        array = array.reshape(-1, *field.row)
    if not fits(array.shape, (-1, *field.row)):
        message = f"has the shape {list(array.shape)}; expected {[-1, *field.row]}"
        raise ContentError(where, message, "The first axis is the rows.")
    if field.datatype == "BYTES":
        if array.dtype.kind != "U":
            raise ContentError(where, f"holds {array.dtype}; expected text", "Give an array of text.")
        found: Array = array.astype(object)
    elif array.dtype.kind not in "bifuM":
        raise ContentError(where, f"holds {array.dtype}; expected {field.datatype}", "Give an array of numbers.")
    else:
        found = _exact(field, array.astype("datetime64[ms]") if array.dtype.kind == "M" else array, where)
    if not field.nullable and missing(found, field).any():
        row = int(np.argmax(missing(found, field)))
        message = "a value is missing; the model takes no missing values"
        raise ContentError(f"{where} row {row + 1}", message, "Fill it in.")
    return found


def _exact(field: Field, array: Array, where: str) -> Array:
    """The array in the field's type, if no value changes by it (but for the rounding to 32 bits)."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: Array = array.astype(field.dtype)
    wrong = np.isinf(found) if found.dtype.kind == "f" else found.astype(array.dtype) != array
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        message = f"holds a value that {field.datatype} cannot hold"
        raise ContentError(f"{where} row {row + 1}", message, "Give values as the model was made from.")
    return found


def _array_target(signature: Signature, arrays: Mapping[str, Array], rows: int, path: Path) -> Array:
    name = signature.target if signature.target in arrays else "y"
    if name not in arrays:
        raise UnknownName.among(str(path), "target array", signature.target, arrays)
    target = arrays[name].reshape(-1)
    if len(target) != rows:
        raise ContentError(str(path), f"{len(target)} targets for {rows} rows", "Give one target a row.")
    if signature.classes and isinstance(signature.classes[0], str):
        texts_found = np.where(target, "true", "false") if target.dtype.kind == "b" else target.astype(str)
        return texts_found.astype(object)
    if target.dtype.kind not in "bifu":
        raise ContentError(f"{path}: {name}", f"holds {target.dtype}; expected numbers", "Give the model's labels.")
    return _numbers(target, signature, f"{path}: {name}")


def _numbers(target: Array, signature: Signature, where: str) -> Array:
    """Targets as a model has them: whole numbers for classes. Raises ContentError for a class that is none."""
    if not signature.classes:
        return target.astype(np.float32)
    wrong = np.not_equal(np.floor(target), target) if target.dtype.kind == "f" else np.zeros(len(target), bool)
    if wrong.any():
        row = int(np.argmax(wrong))
        message = f"came {target[row]}; expected one of the model's classes, which are whole numbers"
        raise ContentError(f"{where} row {row + 1}", message, "Give the labels that the model was made from.")
    return target.astype(np.int64)
