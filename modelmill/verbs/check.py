"""The verb `check`: a look at data before any training."""

from __future__ import annotations

from typing import Annotated

import typer

from modelmill.verbs.options import Group, Json, Target, Test, Time, Types, pairs
from modelmill.verbs.say import print_json


def check(
    source: Annotated[str, typer.Argument(help="A built-in set, a file or a folder.")],
    target: Target = "",
    task: Annotated[str, typer.Option(help="classify or regress.")] = "",
    test: Test = "",
    group: Group = "",
    time: Time = "",
    type_: Types = [],
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Same seed, same split.")] = None,
    json: Json = False,
) -> None:
    """Look at data before any training: types, missing values, duplicates, leakage, balance."""
    from modelmill.ask import request
    from modelmill.recipe.look import look
    from modelmill.screen import Screen

    data = {"target": target, "group": group, "time": time, "test": test, "types": pairs("--type", type_)}
    seen = look(request(source, task=task, data=data, seed=seed))
    if json:
        print_json({"card": seen.card, "findings": seen.findings, "signature": seen.job.signature})
    else:
        with Screen() as screen:
            screen.card(seen.card, seen.findings)
