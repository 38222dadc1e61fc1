"""Tables in Parquet files, whole or in parts."""

from __future__ import annotations

from pathlib import Path

from modelmill.data.files import parts
from modelmill.data.naming import clean
from modelmill.data.rows import Rows, join
from modelmill.errors import ContentError, SourceError


def read_parquet(path: Path) -> Rows:
    """The table in a file or in a folder of parts.

    Raises SourceError for a file that is no Parquet or is damaged, ContentError for a table without rows.
    """
    import pyarrow

    found = [_part(part) for part in parts(path, "parquet")]
    try:
        rows = join(found, path.name)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise SourceError(str(path), f"the parts do not fit together: {error}", "Give parts of one table.") from None
    if rows.table.num_rows == 0:
        raise ContentError(str(path), "holds columns and no rows", "Give a file with rows.")
    return rows


def _part(path: Path) -> Rows:
    import pyarrow
    from pyarrow import parquet

    if path.stat().st_size == 0:
        raise SourceError(str(path), "is empty", "Give a Parquet file with rows.")
    try:
        table = parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise SourceError(str(path), f"is no whole Parquet file: {reason}", "Write the file again.") from None
    names, findings = clean(table.column_names, path.name)
    if not names:
        raise ContentError(str(path), "holds no columns", "Give a table with a target and features.")
    return Rows(table.rename_columns(names), path.name, lambda row: f"{path} row {row + 1}", findings)
