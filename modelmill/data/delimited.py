"""Tables in text: CSV and its kin, read with types inferred, and the line of what is wrong in them."""

from __future__ import annotations

import codecs
import csv
import gzip
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec

from modelmill.data.cells import NUMBER_GAPS, is_text, kind_of
from modelmill.data.files import parts
from modelmill.data.naming import clean
from modelmill.data.rows import Rows, join
from modelmill.errors import ContentError, OutOfBounds, SourceError
from modelmill.finding import Finding

SEPARATORS = ",;\t|"
BLOCK_BYTES = 8 << 20


class Dialect(msgspec.Struct, frozen=True):
    """How a text file holds its table."""

    separator: str = ""
    encoding: str = "utf-8"
    decimal: str = "."
    header: bool = True


def read_parts(path: Path, dialect: Dialect, as_text: Sequence[str] = ()) -> Rows:
    """The table in a text file, or in a folder of parts that share one header.

    A column that is text in one part is read as text in all of them.
    """
    files = parts(path, "csv")
    found = [read_text(file, dialect, as_text) for file in files]
    for file, rows in zip(files, found, strict=True):
        if rows.names != found[0].names:
            hint = "Give parts of one table, or one file."
            raise ContentError(str(file), f"has another header than {files[0].name}", hint)
    mixed = [name for name in found[0].names if _mixed(found, name)]
    if mixed:
        found = [read_text(file, dialect, [*as_text, *mixed]) for file in files]
    return join(found, path.name)


def _mixed(found: Sequence[Rows], name: str) -> bool:
    dtypes = {rows.table.schema.field(name).type for rows in found}
    kinds = {kind_of(dtype) for dtype in dtypes} - {"empty"}
    return len(kinds) > 1 or (kinds == {"date"} and len(dtypes) > 1)


def read_text(path: Path, dialect: Dialect, as_text: Sequence[str] = ()) -> Rows:
    """The table in one text file; the columns `as_text` keep their text, the others get the type that fits.

    Raises SourceError for a file that is no text of that encoding, ContentError with the line of a ragged row.
    """
    dialect, header, skip = start(path, dialect)
    names, findings = clean(header, path.name)
    if next(islice(records(path, dialect), int(dialect.header), None), None) is None:
        raise ContentError(str(path), "holds a header and no rows", "Give a file with rows below it.")
    table = _parse(path, dialect, names, skip, as_text)
    # A time of day means a category here, whose text must stay as it is written.
    clock = [name for name in names if kind_of(table.schema.field(name).type) == "category" and name not in as_text]
    if any(not is_text(table.schema.field(name).type) for name in clock):
        table = _parse(path, dialect, names, skip, [*as_text, *clock])
    if dialect.header and is_row(header):
        findings = (*findings, _no_header(path))
    return Rows(table, path.name, cache(lambda row: _place(path, dialect, row)), findings, True)


def column_names(path: Path, dialect: Dialect) -> list[str]:
    """The names of the columns of a text file, or of the parts in a folder."""
    file = parts(path, "csv")[0]
    return clean(start(file, dialect)[1], file.name)[0]


def start(path: Path, dialect: Dialect, whole: bool = True) -> tuple[Dialect, list[str], int]:
    """The dialect with its separator, the names in the header, and how many lines lie before the first row.

    whole: whether all of the file is looked through for bytes that are no text, or its beginning alone.
    """
    check_encoding(path, dialect.encoding, whole)
    separator = dialect.separator or find_separator(path, dialect)
    dialect = msgspec.structs.replace(dialect, separator=separator)
    return dialect, *_header(path, dialect)


def _no_header(path: Path) -> Finding:
    return Finding(
        "names",
        "warning",
        f"{path.name} line 1",
        "every name in the header is a number; the first row may have been taken for it",
        "Write header = false in [data] if the file has none.",
    )


def open_plain(path: Path) -> IO[bytes]:
    """The bytes of a text file, unpacked where it is a `.gz`."""
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def check_encoding(path: Path, encoding: str, whole: bool = True) -> None:
    """Refuse an empty file, and one whose bytes (or whose first ones) are no text of the encoding, with the line."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise OutOfBounds("data.csv.encoding", f"no encoding named {encoding!r}", "Try utf-8 or latin-1.") from None
    lines, anything, chunk = 1, False, b""
    try:
        with open_plain(path) as file:
            while chunk := file.read(1 << 20):
                if not anything and encoding.lower().startswith("utf-8") and chunk[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise SourceError(str(path), "is UTF-16, expected utf-8", _encoding_hint("utf-16"))
                anything = anything or bool(chunk.strip(b"\xef\xbb\xbf \t\r\n"))
                decoder.decode(chunk)
                lines += chunk.count(b"\n")
                if not whole and anything:
                    return
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line = lines + bytes(error.object)[: error.start].count(b"\n")
        where = f"{path} line {line}"
        raise SourceError(where, f"is not {encoding}: {error.reason}", _encoding_hint("latin-1")) from None
    except (OSError, EOFError) as error:
        raise SourceError(str(path), f"cannot be read: {error}", "Check the file.") from None
    if not anything:
        raise SourceError(str(path), "is empty", "Give a file with a header and rows.")


def _encoding_hint(encoding: str) -> str:
    return f'Save it as UTF-8, or write encoding = "{encoding}" in [data].'


def find_separator(path: Path, dialect: Dialect) -> str:
    """The character that parts the header of a text file most often; a comma where none does."""
    with open_plain(path) as file:
        return separator_of(codecs.getincrementaldecoder(dialect.encoding)().decode(file.read(1 << 16)))


def separator_of(text: str) -> str:
    """The character that parts the first line of a text most often; a comma where none does.

    >>> separator_of("a;b;'c,d'"), separator_of('"a;b;c",d'), separator_of("a")
    (';', ',', ',')
    """
    start = text[: 1 << 16].lstrip("\ufeff\r\n")
    outside = "".join(start.splitlines()[:1]).split('"')[::2]
    counts = {mark: sum(piece.count(mark) for piece in outside) for mark in SEPARATORS}
    return max(counts, key=lambda mark: counts[mark]) if any(counts.values()) else ","


def records(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record starts, and its values; empty lines are left out."""
    with open_plain(path) as file:
        yield from records_in(file, path, dialect)


def records_in(file: IO[bytes], path: Path, dialect: Dialect, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """As `records`, of what is left in an open file, whose next line has the number `first`."""
    encoding = "utf-8-sig" if dialect.encoding.lower() in ("utf-8", "utf8") else dialect.encoding
    reader = csv.reader(codecs.getreader(encoding)(file), delimiter=dialect.separator)
    line = first
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "Look for a quotation mark that is never closed."
            raise ContentError(f"{path} line {line}", f"cannot be read: {error}", hint) from None
        if record:
            yield line, record
        line = reader.line_num + first


def _header(path: Path, dialect: Dialect) -> tuple[list[str], int]:
    """The names in the first record (or made-up ones), and how many lines lie before the first row."""
    line, record = next(records(path, dialect))
    if not dialect.header:
        return [f"column_{i}" for i in range(1, len(record) + 1)], 0
    return record, line


def _parse(path: Path, dialect: Dialect, names: list[str], skip: int, as_text: Sequence[str]) -> Any:
    import pyarrow
    from pyarrow import csv as arrow_csv

    read = arrow_csv.ReadOptions(
        column_names=names, skip_rows_after_names=skip, block_size=BLOCK_BYTES, encoding=dialect.encoding
    )
    parse = arrow_csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True)
    convert = arrow_csv.ConvertOptions(
        column_types={name: pyarrow.string() for name in as_text if name in names},
        null_values=sorted(NUMBER_GAPS),
        strings_can_be_null=False,
        decimal_point=dialect.decimal,
    )
    try:
        with pyarrow.input_stream(str(path)) as stream:
            return arrow_csv.read_csv(stream, read, parse, convert)
    except pyarrow.ArrowInvalid as error:
        raise explain(path, records(path, dialect), len(names), error) from None


def explain(path: Path, found: Iterable[tuple[int, list[str]]], width: int, error: Exception) -> ContentError:
    """Words for what Arrow could not read: the line of the first record that has another width than the header."""
    for line, record in found:
        if len(record) != width:
            return ContentError(
                f"{path} line {line}",
                f"the row has {len(record)} value{'s' * (len(record) != 1)}; expected {width}, as in the header",
                "Correct the line; a value that holds a separator stands in quotation marks.",
            )
    return ContentError(str(path), f"cannot be read: {error}", "Look for a quotation mark that is never closed.")


def _place(path: Path, dialect: Dialect, row: int) -> str:
    wanted = row + 1 if dialect.header else row
    for number, (line, _) in enumerate(records(path, dialect)):
        if number == wanted:
            return f"{path} line {line}"
    return f"{path} row {row + 1}"


def is_row(header: Sequence[str]) -> bool:
    """Whether numbers stand where names belong, so that the first row has most likely been taken for them.

    Three columns or more that are numbered from 0 have names, as pandas writes them.

    >>> [is_row(line.split(",")) for line in ("5.1,3.5,NA", "a,3.5", "2019,2020", "0,1,2")]
    [True, False, True, False]
    """
    names = [name.strip() for name in header]
    if len(names) > 2 and names == [str(number) for number in range(len(names))]:
        return False
    return any(map(_is_number, names)) and all(name in NUMBER_GAPS or _is_number(name) for name in names)


def row_for_names(header: Sequence[str]) -> tuple[str, str]:
    """What is wrong with a row where names belong, and what to try."""
    shown = ", ".join(name.strip()[:20] for name in header[:4]) + (", ..." if len(header) > 4 else "")
    message = f"holds numbers alone ({shown}), as a row does; expected the names of the columns"
    return message, "Put a line of names above the rows, such as a,b,c: any will do, since they are not looked at."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
