"""The verb `import`: a model that was made elsewhere becomes a version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelmill.verbs.options import Json, Quiet
from modelmill.verbs.say import print_json


def import_model(
    path: Annotated[Path, typer.Argument(help="An ONNX file.", metavar="FILE")],
    name: Annotated[str, typer.Option(help="The model's name; by default the file's stem.")] = "",
    task: Annotated[str, typer.Option(help="classify or regress; the file's own outputs where not given.")] = "",
    classes: Annotated[str, typer.Option(help="The classes in the order of the scores.", metavar="A,B,C")] = "",
    output: Annotated[str, typer.Option(help="The output with the scores or values.")] = "",
    target: Annotated[str, typer.Option(help="The column with the truth, to evaluate with.")] = "",
    nullable: Annotated[str, typer.Option(help="Inputs that may miss values: NaN, null.", metavar="A,B")] = "",
    example: Annotated[str, typer.Option(help="Inputs to try it with, an array each.", metavar="FILE.npz")] = "",
    seconds: Annotated[float, typer.Option(help="How long the file may take to be examined.", min=1)] = 120.0,
    memory: Annotated[float, typer.Option(help="What that may take, in MB; 0 is ten times the file and 2 GB.")] = 0.0,
    promote: Annotated[bool, typer.Option("--promote", help="Make the version live whatever was live before.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take in a model from an ONNX file, with no training code, and publish it as a version."""
    from modelmill import api
    from modelmill.listing import print_imported

    settings = {
        "task": task,
        "classes": _listed(classes),
        "output": output,
        "target": target,
        "nullable": _listed(nullable),
        "example": example,
        "seconds": seconds,
        "memory_mb": memory,
    }
    report = api.import_model(path, name, settings=settings, promote=promote)
    if json:
        print_json(report)
    elif not quiet:
        print_imported(report, api.registry().find(f"{report.name}@{report.version}"))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []
