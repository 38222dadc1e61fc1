"""What may be posted to /predict/NAME: rows as JSON or CSV, one image, or one sound, each as the model's columns."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np

from modelmill.data.delimited import is_row, row_for_names, separator_of
from modelmill.errors import RequestError
from modelmill.runtime import rows
from modelmill.runtime.axes import tensor
from modelmill.serve.request import LONG_BYTES
from modelmill.serve.web import lists, wav
from modelmill.serve.web.http import PackedBody
from modelmill.serve.web.wire import check_names, parse
from modelmill.signature import Field, Signature

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]

JSON_TYPES = ("", "application/json", "text/json", "application/x-www-form-urlencoded")
"""JSON, and what curl says of a body where nobody told it."""

PIXELS_MOST = 50_000_000
"""Pixels of the largest image: a small file may hold very many."""

RATES = ("sr", "rate", "sample_rate", "sampling_rate")
"""Names of an input that takes the samples a second."""

UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")
"""Names of what a text is in, or a part of it."""

TRUTHS = {"true": True, "false": False, "1": True, "0": False}
"""Cells that say yes or no."""

LINES = 1024
"""So many rows of a table are read at a time: in between, others have the interpreter."""

JSON_HINT = "Send rows as JSON."

FULL_SCALE = {1: 2.0**7, 2: 2.0**15, 3: 2.0**23, 4: 2.0**31}
"""Bytes of a sample: the value that is 1.0."""


class UnknownType(PackedBody):
    """The body is of a type that is not taken."""


def columns(body: bytes, content_type: str | None, signature: Signature) -> Columns:
    """The columns of a body, by its type. Raises RequestError, UnknownType."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind in JSON_TYPES or kind.endswith("+json"):
        return _of_json(body, signature)
    reader = READERS.get(kind)
    if reader is None:
        hint = f"Send application/json, {', '.join(READERS)}."
        raise UnknownType("Content-Type", f"{kind[:80]!r} is not taken", hint)
    if kind == "text/csv":
        _check_charset(content_type or "")
    if not body:
        raise RequestError("body", "is empty", f"Send a body of type {kind}.")
    return reader(body, signature)


def _check_charset(content_type: str) -> None:
    """Refuse a text that is said not to be in UTF-8. Raises UnknownType."""
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        charset = value.strip().strip('"')
        if name.strip().lower() == "charset" and charset.lower() not in UTF_8:
            raise UnknownType("Content-Type", f"the charset {charset[:40]!r} is not taken", "Send UTF-8.")


def _of_json(body: bytes, signature: Signature) -> Columns:
    part = lists.whole(body) if len(body) > lists.BYTES else None
    if part is not None and part.cuts:
        return rows.to_columns_in_pieces(_pieces(part), signature)
    given = parse(body)
    if isinstance(given, dict):
        raise RequestError("body", "expected an array of rows, came an object", "Put the row in brackets: [{...}].")
    if not isinstance(given, list):
        raise RequestError("body", "expected an array of rows", "Send [{...}, ...] or [[...], ...].")
    if not given:
        raise RequestError("body", "has no rows", "Send at least one row.")
    return rows.to_columns(given, signature)


def _pieces(part: lists.Part) -> Iterator[list[Any]]:
    """The rows of a long list, some at a time."""
    for values, text in part.pieces("body"):
        check_names(text, values)
        yield values


def _of_csv(body: bytes, signature: Signature) -> Columns:
    """A header with the names of the columns, then a line a row; an empty cell is a missing value."""
    text = io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")
    try:
        read = csv.reader(text, delimiter=separator_of(_start(body)), strict=True)
        return _of_lines((line for line in read if line), signature)
    except UnicodeDecodeError:
        raise RequestError("body", "is not UTF-8", "Write the table as UTF-8.") from None
    except csv.Error as error:
        raise RequestError("body", f"is not CSV: {error}", "Put cells with separators or quotes in quotes.") from None


def _start(body: bytes) -> str:
    """The first characters of a text. Raises UnicodeDecodeError."""
    return codecs.getincrementaldecoder("utf-8-sig")().decode(body[: 1 << 16])


def _of_lines(lines: Iterator[list[str]], signature: Signature) -> Columns:
    """The columns of a table, the header first. Raises RequestError, csv.Error."""
    header, first = next(lines, None), next(lines, None)
    if header is None or first is None:
        message = f"came {0 if header is None else 1} lines, expected a line of column names, and at least one row"
        raise RequestError("body", message, "Send a line a row.")
    fields = signature.inputs
    is_block = signature.is_block(header)
    if is_block and fields[0].datatype != "BYTES" and is_row(header):
        message, hint = row_for_names(header)
        raise RequestError("body", f"its first line {message}", hint)
    twice = next((name for name, count in Counter(header).items() if count > 1), None)
    if twice is not None:
        message = f"the column {twice[:80]!r} comes twice in the header"
        raise RequestError("body", message, "Give every column a name of its own.")
    for field in () if is_block else fields:
        if not field.is_column:
            message = f"{field.name} takes arrays, which a cell does not hold"
            raise RequestError("body", message, "Send JSON, or a tensor to /v2/models/NAME/infer.")
    known = {name: field for field in fields for name in _names(field)}
    read = [known.get(name) for name in header]

    def row(number: int, line: list[str]) -> Any:
        if len(line) != len(header):
            message = f"came {len(line)} cells, expected {len(header)} as in the header"
            raise RequestError(f"rows[{number}]", message, "Leave a cell empty where a value is missing.")
        if is_block:
            return [_block(fields[0], line)]
        return {name: _cell(field, cell) for name, field, cell in zip(header, read, line, strict=True)}

    found = (row(number, line) for number, line in enumerate(chain([first], lines)))
    return rows.to_columns_in_pieces(iter(lambda: list(islice(found, LINES)), []), signature)


def _block(field: Field, line: list[str]) -> list[Any]:
    """The cells of a line as the one tensor of a row."""
    if field.width not in (-1, len(line)):
        shown = f"a row of {field.name} has the shape {list(field.row)}"
        if not field.width:
            raise RequestError("body", f"{shown}, which a table does not hold", JSON_HINT)
        message = f"came {len(line)} columns, expected {field.width}, since {shown}"
        raise RequestError("body", message, "Send its values in their order; names are not looked at.")
    found = [_cell(field, cell) for cell in line]
    for size in field.row[:0:-1]:
        found = [found[start : start + size] for start in range(0, len(found), size)]
    return found


def _names(field: Field) -> tuple[str, ...]:
    """The names by which a column may go: its own, and the one it had before an output took that."""
    short = field.name.removesuffix(rows.RENAMED)
    return (field.name, short)


def _cell(field: Field | None, cell: str) -> Any:
    """The value in a cell; what is no number where one belongs is left as text, to be refused with its row."""
    if field is None or field.datatype == "BYTES" or field.kind == "date":
        return cell or (None if field is not None and field.kind == "date" else cell)
    if not cell:
        return None
    if field.is_boolean and cell.lower() in TRUTHS:
        return TRUTHS[cell.lower()]
    plain = cell.isascii() and "_" not in cell  # Python would read 1_000, and the digits of every script
    for number in (int, float) if plain else ():
        try:
            value = number(cell)
        except ValueError:
            continue
        return value if math.isfinite(value) else cell
    return cell


def _of_image(body: bytes, signature: Signature) -> Columns:
    """One image as the one row, in the size and the colours that the model takes."""
    field = _only(signature, "image", "an image")
    size, colours, first = _layout(field)
    pixels = _pixels(body, size, "RGB" if colours == 3 else "L")
    if pixels.ndim == 2 and len(field.row) == 3:
        pixels = pixels[:, :, None]
    value = pixels.transpose(2, 0, 1) if first else pixels
    dtype = np.dtype(field.dtype)
    if dtype.kind in "iu" and np.iinfo(dtype).max < 255:
        raise RequestError("body", f"{field.name} is {field.datatype}, which does not hold pixels up to 255", JSON_HINT)
    return {field.name: tensor(field, value[None].astype(dtype))}


def _layout(field: Field) -> tuple[tuple[int, int], int, bool]:
    """Height and width, -1 being any; how many colours; and whether the colours come first."""
    row = field.row
    if len(row) == 2:
        return (row[0], row[1]), 1, False
    if len(row) == 3 and row[2] in (1, 3):
        return (row[0], row[1]), row[2], False
    if len(row) == 3 and row[0] in (1, 3):
        return (row[1], row[2]), row[0], True
    raise RequestError("body", f"{field.name} of shape {list(row)} is no image of one or three colours", JSON_HINT)


def _pixels(body: bytes, size: tuple[int, int], mode: str) -> Array:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        hint = "Where the service runs: pip install 'modelmill[image]'."
        raise UnknownType("Content-Type", "images cannot be read here: Pillow is not installed", hint) from None
    try:
        image: Image.Image = Image.open(io.BytesIO(body), formats=("PNG", "JPEG"))
        if image.width * image.height > PIXELS_MOST:
            raise _too_many_pixels()
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or image.mode == "I":
            image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        image = image.convert(mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels() from None
    except UnidentifiedImageError:
        raise _no_image(f"it begins with {body[:8]!r}") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise _no_image(str(error)[:120]) from None
    height, width = (given if wanted < 0 else wanted for given, wanted in zip(image.size[::-1], size, strict=True))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _no_image(words: str) -> RequestError:
    return RequestError("body", f"is no image that can be read: {words}", "Send a whole PNG or JPEG.")


def _too_many_pixels() -> RequestError:
    return RequestError("body", f"has more than {PIXELS_MOST:,} pixels", "Send a smaller image.")


def _of_sound(body: bytes, signature: Signature) -> Columns:
    """One sound as the one row: samples from -1 to 1, or whole ones where the model takes 16-bit numbers."""
    rates = [field for field in signature.inputs if field.name in RATES]
    others = [field for field in signature.inputs if field not in rates]
    field = _only(Signature("", tuple(others), ()), "sequence", "a sound")
    sound = wav.read(body)
    width = sound.width
    if field.datatype == "INT16" and width == 2:
        value = sound.samples
    elif field.datatype.startswith("FP"):
        value = (sound.samples / FULL_SCALE[width]).astype(field.dtype)
    else:
        message = f"{field.name} is {field.datatype}, and the sound has {8 * width} bits a sample"
        raise RequestError("body", message, "Send 16 bits to INT16; FP32 takes any.")
    value = _channels(value, field)
    wanted = field.row[0]
    if wanted not in (-1, len(value)):
        raise RequestError("body", f"has {len(value)} samples, the model takes {wanted}", "Cut the sound, or pad it.")
    found = {field.name: tensor(field, value[None])}
    for each in rates:
        if each.dtype.startswith(("int", "uint")) and sound.rate > np.iinfo(each.dtype).max:
            message = f"has {sound.rate} samples a second, more than {each.name} holds as {each.datatype}"
            raise RequestError("body", message, "Is the rate right?")
        row = np.full((1, *(1 if size < 0 else size for size in each.row)), sound.rate)
        found[each.name] = tensor(each, row.astype(each.dtype))
    return found


def _channels(value: Array, field: Field) -> Array:
    """The samples as the model takes them: one channel, or as many as it has."""
    if len(field.row) == 1:
        return value[:, 0] if value.shape[1] == 1 else value.mean(axis=1).astype(value.dtype)
    if len(field.row) == 2 and field.row[1] in (-1, value.shape[1]):
        return value
    message = f"has {value.shape[1]} channels, {field.name} takes {list(field.row)} a row"
    raise RequestError("body", message, "Mix the channels, or leave some out.")


def _only(signature: Signature, kind: str, what: str) -> Field:
    """The input of a kind, where it is the only one; an array of numbers will do."""
    if len(signature.inputs) == 1:
        field = signature.inputs[0]
        plain = field.kind == "array" and field.row and field.datatype not in ("BYTES", "BOOL")
        if field.kind == kind or plain:
            return field
    shown = ", ".join(f"{field.name} ({field.kind})" for field in signature.inputs[:8])
    raise RequestError("body", f"is {what}, the model takes {shown or 'nothing of that kind'}", JSON_HINT)


Reader = Callable[[bytes, Signature], Columns]

READERS: dict[str, Reader] = {
    "text/csv": _of_csv,
    "image/png": _of_image,
    "image/jpeg": _of_image,
    "audio/wav": _of_sound,
    "audio/wave": _of_sound,
    "audio/x-wav": _of_sound,
    "audio/vnd.wave": _of_sound,
}
"""What reads a body of every type beside JSON."""


def is_long(body: bytes, content_type: str | None) -> bool:
    """Whether reading may take so long that it should not be done on the loop."""
    return len(body) > LONG_BYTES or (content_type or "").startswith("image/")
