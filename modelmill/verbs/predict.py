"""The verb `predict`: answers for the rows of a file, without a service, however large it is."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelmill.verbs.options import Json, Name, Quiet
from modelmill.verbs.say import print_json

if TYPE_CHECKING:
    from modelmill.bulk.answer import Advance
    from modelmill.loaded import Loaded

Input = Annotated[
    Path, typer.Option("--input", help="CSV, Parquet, JSON Lines, NPZ or IDX rows; of any size.", metavar="FILE")
]
Output = Annotated[Path | None, typer.Option("--output", help="Where to write; standard output by default.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew, though an earlier run could be gone on with.")]

EVERY_S = 5.0
DRAW_EVERY_S = 0.2
"""How often a line is said, and how often a bar is drawn anew."""


def predict(
    name: Name,
    input: Input,
    output: Output = None,
    fresh: Fresh = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer every row of a file, with the model of the registry and without a service."""
    from modelmill.api import home, load
    from modelmill.bulk.formats import FORMATS
    from modelmill.data.files import existing
    from modelmill.data.source import BUILTINS
    from modelmill.data.stream import can_stream
    from modelmill.table import check_output, write_answers

    model = load(name, home())
    source = None if str(input) in BUILTINS else existing(str(input))
    if output is not None:
        check_output(output, source)
    in_blocks = source is not None and can_stream(source)
    if output is not None and output.suffix in FORMATS and in_blocks:
        _in_blocks(model, input, output, fresh, json, quiet)
        return
    answers = model.predict_file(input)
    if json and output is None:
        print_json(model.as_json(answers))
        return
    rows = write_answers(answers, model.version.signature, output)
    if output is not None:
        _ended({"model": model.version.reference, "rows": rows, "output": str(output)}, json, quiet)


def _in_blocks(model: Loaded, input: Path, output: Path, fresh: bool, json: bool, quiet: bool) -> None:
    """Answer a file block by block, and say how far it is."""
    steps = model.answer_file(input, output, fresh)
    last = _watched(steps, sys.stderr.isatty()) if not quiet else _last(steps)
    document = {
        "model": model.version.reference,
        "rows": last.rows,
        "output": str(output),
        "size_bytes": last.size_bytes,
        "resumed_rows": last.earlier_rows,
        "seconds": round(last.seconds, 3),
        "rows_per_second": round(last.rows_per_second, 1),
    }
    _ended(document, json, quiet)


def _ended(document: dict[str, Any], json: bool, quiet: bool) -> None:
    if json:
        print_json(document)
    if quiet:
        return
    pace = (
        f" in {document['seconds']:.1f} s: {document['rows_per_second']:,.0f} rows/s" if "seconds" in document else ""
    )
    print(f"{document['rows']} rows written to {document['output']}{pace}", file=sys.stderr)


def _last(steps: Iterable[Advance]) -> Advance:
    *_, last = steps
    return last


def _watched(steps: Iterable[Advance], on_terminal: bool) -> Advance:
    """Follow a run to its end: a bar on a terminal, lines elsewhere. An interruption says what is kept."""
    step: Advance | None = None
    due = 0.0 if on_terminal else EVERY_S
    try:
        for step in steps:
            if step.rows == step.earlier_rows:
                _begun(step)
            elif step.seconds >= due and not step.size_bytes:
                due = step.seconds + (DRAW_EVERY_S if on_terminal else EVERY_S)
                line = f"\r{_line(step)}\033[K" if on_terminal else f"{_line(step)}\n"
                print(line, end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        if step is not None:
            _clear(on_terminal)
            print(f"{step.rows:,} rows are answered and kept; the same command goes on.", file=sys.stderr)
        raise
    finally:
        _clear(on_terminal)
    assert step is not None, "a run says where it starts"
    return step


def _begun(step: Advance) -> None:
    """Say where a run starts, if that is not the start of the file, or not where it might have been."""
    if step.note:
        print(f"Starts anew: {step.note}.", file=sys.stderr)
    elif step.rows:
        whole = f" of {step.total_rows:,}" if step.total_rows is not None else ""
        print(f"Goes on after {step.rows:,}{whole} rows; --fresh starts anew.", file=sys.stderr)


def _clear(on_terminal: bool) -> None:
    if on_terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _line(step: Advance) -> str:
    """How far a run is, in a line."""
    from modelmill.lines import bar

    whole = f" of {step.total_rows:,}" if step.total_rows is not None else ""
    done = (step.rows - step.earlier_rows) / step.rows
    left = step.seconds / max(step.share * done, 1e-9) * (1 - step.share)
    return f"{bar(step.share)} {step.rows:,}{whole} rows  {step.rows_per_second:,.0f} rows/s  about {left:.0f} s left"
