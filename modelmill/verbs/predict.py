"""The verb `predict`: answers for the rows of a file, without a service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from modelmill.verbs.options import Json, Name
from modelmill.verbs.say import print_json


def predict(
    name: Name,
    input: Annotated[Path, typer.Option("--input", help="CSV, Parquet, NPZ or IDX rows.", metavar="FILE")],
    output: Annotated[Path | None, typer.Option("--output", help="Where to write; standard output by default.")] = None,
    json: Json = False,
) -> None:
    """Answer every row of a file, with the model of the registry and without a service."""
    from modelmill.api import home, load
    from modelmill.table import write_answers

    model = load(name, home())
    answers = model.predict_file(input)
    if json and output is None:
        print_json(model.as_json(answers))
    else:
        rows = write_answers(answers, model.version.signature, output)
        if output is not None:
            print(f"{rows} rows written to {output}", file=sys.stderr)
