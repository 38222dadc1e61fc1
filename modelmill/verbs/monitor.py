"""The verb `monitor`: what drifted since a version was published."""

from __future__ import annotations

from typing import Annotated

import typer

from modelmill.verbs.options import Json, Name
from modelmill.verbs.say import print_json


def monitor(
    name: Name,
    input: Annotated[str, typer.Option("--input", help="New rows, as `predict` takes them.", metavar="FILE")],
    window: Annotated[int, typer.Option(min=0, help="Rows to look at together; 0 is all of them.")] = 0,
    json: Json = False,
) -> None:
    """Say which columns and answers drifted since the model was published; needs no truth."""
    from modelmill.api import home, load
    from modelmill.tables import console, drift_table

    model = load(name, home())
    findings = list(model.watch(input, window))
    if json:
        print_json({"model": model.version.reference, "findings": findings})
    elif not findings:
        print(f"Nothing drifted: these rows are like those that {model.version.reference} was published with.")
    else:
        console().print(drift_table(model.version.reference, findings))
        print("\n".join(dict.fromkeys(finding.hint for finding in findings)))
