"""The verb `evaluate`: figures of a version on data with the truth, and its costs on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from modelmill.verbs.options import Json, Name
from modelmill.verbs.say import print_json


def evaluate(
    name: Name,
    data: Annotated[str, typer.Option("--data", help="A source with the truth in it.")],
    target: Annotated[str, typer.Option(help="The column with the truth.")] = "",
    against: Annotated[str, typer.Option(help="A version to agree with, for want of a truth.", metavar="NAME")] = "",
    json: Json = False,
) -> None:
    """Score a version on data with the truth, and measure what it costs on this machine."""
    from modelmill.api import home, load
    from modelmill.tables import console, scores_table

    loaded = load(name, home())
    scores = loaded.evaluate(data, target, load(against, home()) if against else None)
    if json:
        print_json({"model": loaded.version.reference, **scores})
    else:
        console().print(scores_table(loaded.version.reference, scores["metrics"], scores["costs"]))
