"""How answers are written block by block: bytes that stand one after the other, and what ends the file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from modelmill.bulk import groups
from modelmill.contracts import Outputs
from modelmill.signature import Signature
from modelmill.table import as_text, to_table

Format = Literal[".csv", ".parquet", ".jsonl"]

FORMATS: tuple[Format, ...] = (".csv", ".parquet", ".jsonl")
"""The suffixes of the files that can be written block by block."""

LAYOUT = 2
"""How rows are read and answers are laid out: what an earlier layout began is not gone on with."""


@dataclass(frozen=True)
class Piece:
    """The answers to one block: bytes for the file, and what its end has to know of them."""

    data: bytes
    rows: int
    note: bytes = b""


def head(form: Format) -> bytes:
    """What a file begins with."""
    return groups.MAGIC if form == ".parquet" else b""


def piece(form: Format, answers: Outputs, signature: Signature, first: bool) -> Piece:
    """The answers to a block as bytes; the first block of CSV brings the header."""
    rows = len(next(iter(answers.values())))
    if form == ".parquet":
        data, note = groups.to_group(to_table(answers, signature))
        return Piece(data, rows, note)
    if form == ".csv":
        from pyarrow import csv

        sink = io.BytesIO()
        csv.write_csv(as_text(to_table(answers, signature)), sink, csv.WriteOptions(include_header=first))
        return Piece(sink.getvalue(), rows)
    import orjson

    from modelmill.runtime.rows import to_json

    lines = (orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in to_json(answers, signature))
    return Piece(b"".join(lines), rows)


def foot(form: Format, notes: Iterable[tuple[int, bytes]]) -> bytes:
    """What a file ends with, by the place and the note of every piece."""
    return groups.footer(notes) if form == ".parquet" else b""
