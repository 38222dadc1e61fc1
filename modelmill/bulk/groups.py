"""Row groups of Parquet that are made apart, in any thread, and stand in one file in the end, encoded once.

A table is written as a Parquet file of its own, in memory; what lies between its magic word and its footer is a row
group. Such pieces one after the other are a file whose footer lists the row groups, each moved to where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelmill.bulk.compact import Struct, read_struct, write_struct

if TYPE_CHECKING:
    import pyarrow

MAGIC = b"PAR1"
ROWS, GROUPS = 3, 4
"""Fields of a file's metadata: its rows, its row groups."""
COLUMNS, GROUP_ROWS, GROUP_AT, ORDINAL = 1, 3, 5, 7
"""Fields of a row group."""
CHUNK_AT, CHUNK_METADATA, OFFSET_INDEX_AT, COLUMN_INDEX_AT = 2, 3, 4, 6
"""Fields of a column's chunk."""
PAGE_PLACES = (9, 10, 11, 14)
"""Fields of a chunk's metadata that are places in the file: data pages, index pages, dictionary, Bloom filter."""


def to_group(table: pyarrow.Table) -> tuple[bytes, bytes]:
    """The bytes of a table as row groups, and the metadata that describe them as if they stood after a magic word."""
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, row_group_size=max(table.num_rows, 1))
    made = sink.getvalue().to_pybytes()
    size = int.from_bytes(made[-8:-4], "little")
    return made[4 : -8 - size], made[-8 - size : -8]


def footer(groups: Iterable[tuple[int, bytes]]) -> bytes:
    """The footer of a file whose row groups stand at these places, each with the metadata that `to_group` gave."""
    whole: Struct = {}
    rows = 0
    listed: list[Struct] = []
    for at, metadata in groups:
        found, _ = read_struct(metadata)
        whole = whole or found
        rows += found[ROWS][1]
        for group in found[GROUPS][1][1]:
            listed.append(_moved(group, at - len(MAGIC), len(listed)))
    kind = whole[GROUPS][0]
    made = write_struct({**whole, ROWS: (whole[ROWS][0], rows), GROUPS: (kind, (whole[GROUPS][1][0], listed))})
    return made + len(made).to_bytes(4, "little") + MAGIC


def _moved(group: Struct, by: int, number: int) -> Struct:
    """A row group whose places lie so many bytes further."""
    inner, chunks = group[COLUMNS][1]
    moved = dict(group)
    moved[COLUMNS] = (group[COLUMNS][0], (inner, [_moved_chunk(chunk, by) for chunk in chunks]))
    if ORDINAL in moved:
        moved[ORDINAL] = (moved[ORDINAL][0], min(number, 2**15 - 1))
    return _shifted(moved, (GROUP_AT,), by)


def _moved_chunk(chunk: Struct, by: int) -> Struct:
    kind, metadata = chunk[CHUNK_METADATA]
    moved = {**chunk, CHUNK_METADATA: (kind, _shifted(metadata, PAGE_PLACES, by))}
    return _shifted(moved, (CHUNK_AT, OFFSET_INDEX_AT, COLUMN_INDEX_AT), by)


def _shifted(struct: Struct, fields: Iterable[int], by: int) -> Struct:
    """A struct whose places lie further; 0 is no place."""
    there = {number: struct[number] for number in fields if number in struct and struct[number][1] > 0}
    return {**struct, **{number: (kind, value + by) for number, (kind, value) in there.items()}}
