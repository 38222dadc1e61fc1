"""Rows of a file that may be larger than memory: a block after another, cut at the same places every time.

Where a block ends depends on the file alone, so that a reader who goes on from a mark sees the blocks that one who read
from the start would have seen.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import msgspec

from modelmill.data.cells import NUMBER_GAPS
from modelmill.data.delimited import Dialect, explain, open_plain, records_in, start
from modelmill.data.files import existing, parts, source_of
from modelmill.data.json_lines import fit_lines, is_json_lines
from modelmill.data.naming import clean
from modelmill.data.read import column_of, fit_rows, names_of, texts_of
from modelmill.data.rows import Rows
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, SourceError
from modelmill.signature import Signature

TEXT_BYTES = 4 << 20
TABLE_BYTES = 8 << 20
"""The size of a block, of text and of a table in memory."""

BUFFER_BYTES = 1 << 20
"""How much of a column of a Parquet file is read at once."""

LONGEST_BYTES = 64 << 20
"""Text without an end of a row beyond which something is wrong with it."""


class Mark(msgspec.Struct, frozen=True):
    """A place between two rows: the file's number, and the bytes of text, or the rows of a table, before it."""

    part: int = 0
    at: int = 0
    line: int = 0
    """Lines of the text before it."""


class Block(ABC):
    """Some rows as they came, to be read in any thread."""

    after: Mark
    share: float
    """The part of all data that lies before its end."""

    @abstractmethod
    def dataset(self, signature: Signature) -> Dataset:
        """Its rows as a model's inputs. Raises ContentError with the place of a value that does not fit."""


@dataclass(frozen=True)
class Stream:
    """The files to read, in order, and how large a block is at most.

    path: a CSV, Parquet or JSON Lines file, or a folder of parts of one table. rows: of a block, at most.
    """

    path: Path
    rows: int = 65_536
    text_bytes: int = TEXT_BYTES
    source: str = field(init=False)
    files: tuple[Path, ...] = field(init=False)

    def __post_init__(self) -> None:
        path = existing(str(self.path))
        source = "json_lines" if is_json_lines(path) else source_of(path)
        files = (path,) if source == "json_lines" else tuple(parts(path, source))
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "files", files)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The bytes of every file."""
        return tuple(file.stat().st_size for file in self.files)

    @cached_property
    def total_rows(self) -> int | None:
        """How many rows there are, where the files say so."""
        if self.source != "parquet":
            return None
        return sum(int(_open_parquet(file).metadata.num_rows) for file in self.files)

    def blocks(self, signature: Signature, since: Mark) -> Iterator[Block]:
        """The blocks from a mark on. Raises SourceError for a file that is not what it says."""
        for part in range(since.part, len(self.files)):
            mark = since if part == since.part else Mark(part)
            if self.source == "parquet":
                yield from _tables(self, signature, mark)
            else:
                yield from _texts(self, signature, mark)

    def share(self, part: int, ratio: float) -> float:
        """The part of all bytes that lies before a place in a file."""
        return min((sum(self.sizes[:part]) + ratio * self.sizes[part]) / max(sum(self.sizes), 1), 1.0)


def can_stream(path: Path) -> bool:
    """Whether a file or folder can be read a block at a time."""
    return is_json_lines(path) or source_of(path) in ("csv", "parquet")


@dataclass(frozen=True)
class TableBlock(Block):
    """Rows of a Parquet file."""

    after: Mark
    share: float
    table: Any
    path: Path

    def dataset(self, signature: Signature) -> Dataset:
        """Its rows as a model's inputs."""
        before = self.after.at - self.table.num_rows
        rows = Rows(self.table, self.path.name, lambda row: f"{self.path} row {before + row + 1}")
        return fit_rows(signature, rows)


def _open_parquet(path: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    if path.stat().st_size == 0:
        raise SourceError(str(path), "is empty", "Give a Parquet file with rows.")
    try:
        return parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> SourceError:
    reason = str(error).partition("\n")[0].rstrip(".")
    return SourceError(str(path), f"is no whole Parquet file: {reason}", "Write the file again.")


def _tables(stream: Stream, signature: Signature, since: Mark) -> Iterator[TableBlock]:
    """The blocks of one Parquet file: slices of a row group, or several small ones together."""
    import pyarrow

    path = stream.files[since.part]
    with _open_parquet(path) as file:
        names, _ = clean(file.schema_arrow.names, path.name)
        wanted = _wanted(signature, names, path) if names == file.schema_arrow.names else None
        size = _rows_of_a_block(file.metadata, stream.rows)
        try:
            for table, after in _slices(file, size, since.at, wanted):
                mark = Mark(since.part, after)
                named = table.rename_columns(names) if wanted is None else table
                share = stream.share(since.part, after / file.metadata.num_rows)
                yield TableBlock(mark, share, named, path)
        except (pyarrow.ArrowException, OSError) as error:
            raise _broken(path, error) from None


def _wanted(signature: Signature, names: Sequence[str], path: Path) -> list[str] | None:
    """The columns that a model takes; None for all of them."""
    if signature.is_block(names):
        return None
    return [column_of(field, names, path.name) for field in signature.inputs]


def _rows_of_a_block(metadata: Any, most: int) -> int:
    groups = range(metadata.num_row_groups)
    row = sum(metadata.row_group(group).total_byte_size for group in groups) / max(metadata.num_rows, 1)
    return max(1, min(most, int(TABLE_BYTES / max(row, 1))))


def _slices(file: Any, size: int, skipped: int, columns: list[str] | None) -> Iterator[tuple[Any, int]]:
    """Tables of at most `size` rows, and how many rows of the file lie before the end of each."""
    import pyarrow

    at = 0
    for groups, rows in _units(file.metadata, size):
        if at + rows <= skipped:
            at += rows
            continue
        for batch in file.iter_batches(size, row_groups=groups, columns=columns):
            at += batch.num_rows
            if at > skipped and batch.num_rows:
                table = pyarrow.Table.from_batches([batch])
                yield (table if columns is None else table.select(columns)), at


def _units(metadata: Any, size: int) -> Iterator[tuple[list[int], int]]:
    """Row groups to read together, so that small ones fill a block; and their rows."""
    groups: list[int] = []
    rows = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        rows += metadata.row_group(group).num_rows
        if rows >= size or group + 1 == metadata.num_row_groups:
            yield groups, rows
            groups, rows = [], 0


@dataclass(frozen=True)
class TextBlock(Block):
    """Whole lines of a CSV file."""

    after: Mark
    share: float
    text: bytes
    first: int
    """The number of its first line."""
    table: Table

    def dataset(self, signature: Signature) -> Dataset:
        """Its rows as a model's inputs."""
        table = self.table
        rows = Rows(table.parse(self.text, self.first), table.path.name, self._place, is_text=True)
        return fit_rows(signature, rows)

    def _place(self, row: int) -> str:
        for number, (line, _) in enumerate(self.table.records(self.text, self.first)):
            if number == row:
                return f"{self.table.path} line {line}"
        return f"{self.table.path} row {row + 1}"


@dataclass(frozen=True)
class LinesBlock(Block):
    """Whole lines of a JSON Lines file."""

    after: Mark
    share: float
    text: bytes
    first: int
    path: Path

    def dataset(self, signature: Signature) -> Dataset:
        """Its rows as a model's inputs."""
        return fit_lines(signature, self.text, self.path, self.first)


@dataclass(frozen=True)
class Table:
    """What the header of a CSV file says of its rows, and which columns are wanted."""

    path: Path
    dialect: Dialect
    names: tuple[str, ...]
    wanted: tuple[str, ...]
    texts: tuple[str, ...]

    def records(self, text: bytes, first: int) -> Iterator[tuple[int, list[str]]]:
        """The line on which each record of a block starts, and its values."""
        return records_in(io.BytesIO(text), self.path, self.dialect, first)

    def parse(self, text: bytes, first: int) -> Any:
        """The wanted columns of a block, the types inferred. Raises ContentError with the line of a ragged row."""
        import pyarrow
        from pyarrow import csv

        read = csv.ReadOptions(column_names=self.names, block_size=len(text) + 1, use_threads=False)
        parse = csv.ParseOptions(delimiter=self.dialect.separator, newlines_in_values=True)
        convert = csv.ConvertOptions(
            column_types={name: pyarrow.string() for name in self.texts},
            include_columns=self.wanted,
            null_values=sorted(NUMBER_GAPS),
            strings_can_be_null=False,
        )
        try:
            return csv.read_csv(pyarrow.BufferReader(text), read, parse, convert)
        except pyarrow.ArrowInvalid as error:
            self._check_text(text, first)
            raise explain(self.path, self.records(text, first), len(self.names), error) from None

    def _check_text(self, text: bytes, first: int) -> None:
        try:
            text.decode()
        except UnicodeDecodeError as error:
            line = first + text[: error.start].count(b"\n")
            raise SourceError(
                f"{self.path} line {line}", f"is not utf-8: {error.reason}", "Save it as UTF-8."
            ) from None


def _texts(stream: Stream, signature: Signature, since: Mark) -> Iterator[Block]:
    """The blocks of one file of text: whole rows, as many as lie in so many bytes."""
    path = stream.files[since.part]
    size, head = _bytes_of_a_block(path, stream), 0
    table = None
    if stream.source == "csv":
        table, head = _table(path, signature)
    with open_plain(path) as file:
        mark = since if since.at else Mark(since.part, *_skip_lines(file, head))
        _go_to(file, path, mark.at)
        total = None if path.name.lower().endswith(".gz") else stream.sizes[since.part]
        for text, after in _cut(file, path, mark, size, table.dialect.separator if table else ""):
            ratio = after.at / total if total else _packed_ratio(file, stream.sizes[since.part])
            share = stream.share(since.part, min(ratio, 1.0))
            first = after.line - text.count(b"\n") + 1
            if not text.strip():
                continue
            if table is not None:
                yield TextBlock(after, share, text, first, table)
            else:
                yield LinesBlock(after, share, text, first, path)


def _table(path: Path, signature: Signature) -> tuple[Table, int]:
    """What the header says, and how many lines lie before the first row."""
    dialect, header, head = start(path, Dialect(), whole=False)
    names = names_of(signature, path, header, head)
    wanted = _wanted(signature, names, path)
    if wanted is None:
        wanted = [name for name in names if name != signature.target]
    texts = [name for name in texts_of(signature, names) if name in wanted]
    return Table(path, dialect, tuple(names), tuple(wanted), tuple(texts)), head


def _bytes_of_a_block(path: Path, stream: Stream) -> int:
    """How much text holds the rows of a block, by the length of the first lines."""
    with open_plain(path) as file:
        sample = file.read(1 << 16)
    if b"\r" in sample and b"\n" not in sample:
        hint = "Save it with the line ends of Unix or of Windows."
        raise ContentError(str(path), "has lines that end in a carriage return alone", hint)
    line = len(sample) / max(sample.count(b"\n"), 1)
    return max(1 << 10, min(stream.text_bytes, int(stream.rows * line)))


def _skip_lines(file: IO[bytes], lines: int) -> tuple[int, int]:
    return sum(len(file.readline()) for _ in range(lines)), lines


def _go_to(file: IO[bytes], path: Path, at: int) -> None:
    """Put a file to a place that lies in it."""
    try:
        file.seek(at)
    except (OSError, EOFError) as error:
        raise SourceError(str(path), f"cannot be read: {error}", "Check the file.") from None


def _packed_ratio(file: Any, size: int) -> float:
    """How much of a packed file is read."""
    return float(file.fileobj.tell() / max(size, 1)) if hasattr(file, "fileobj") else 0.0


def _cut(file: IO[bytes], path: Path, since: Mark, size: int, separator: str) -> Iterator[tuple[bytes, Mark]]:
    """Text that ends where a row ends, and the mark after it."""
    quoted = _quoted(separator) if separator else None
    read, mark, window = b"", since, size
    while True:
        try:
            read += file.read(max(window - len(read), 0))
        except (OSError, EOFError) as error:
            raise SourceError(str(path), f"cannot be read: {error}", "Check the file.") from None
        if not read:
            return
        ended = len(read) < window
        end = len(read) if ended else _last_end(read[:window], quoted)
        if not end:
            if window > LONGEST_BYTES:
                hint = "Look for a quotation mark that is never closed."
                raise ContentError(f"{path} line {mark.line + 1}", f"the row has no end in {window} bytes", hint)
            window += size
            continue
        text, read, window = read[:end], read[end:], size
        mark = Mark(mark.part, mark.at + end, mark.line + text.count(b"\n"))
        yield text, mark


def _quoted(separator: str) -> re.Pattern[bytes]:
    """A value in quotation marks; its group is empty where it is not closed."""
    return re.compile(rb'(?:\A|(?<=[%s\r\n]))"(?:[^"]++|"")*+("|\Z)' % re.escape(separator.encode()))


def _last_end(text: bytes, quoted: re.Pattern[bytes] | None) -> int:
    """Where the last whole row of a text ends; 0 where there is none."""
    end = text.rfind(b"\n")
    if quoted is not None and b'"' in text:
        spans = [(at.start(), at.end() if at[1] else len(text) + 1) for at in quoted.finditer(text)]
        for low, high in reversed(spans):
            if end >= high:
                break
            if low < end:
                end = text.rfind(b"\n", 0, low)
    return end + 1
