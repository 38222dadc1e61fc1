"""The verb `build`: the whole recipe, from data to a published version."""

from __future__ import annotations

from typing import Annotated

import typer

from modelmill.verbs.follow import follow
from modelmill.verbs.options import Group, Json, Limits, Quiet, Target, Test, Time, Types, Verbose, numbers, pairs


def build(
    source: Annotated[str, typer.Argument(help="A built-in set, a file, a folder, or a spec (.toml).")],
    name: Annotated[str, typer.Option(help="The model's name; by default the set's or the file's stem.")] = "",
    target: Target = "",
    task: Annotated[str, typer.Option(help="classify or regress; inferred where not given.")] = "",
    test: Test = "",
    maximize: Annotated[list[str], typer.Option(help="A metric to make large; may be repeated.")] = [],
    minimize: Annotated[list[str], typer.Option(help="A metric or cost to make small; may be repeated.")] = [],
    reach: Annotated[
        list[str], typer.Option(help="Stop at this quality, then prefer the cheaper.", metavar="METRIC=VALUE")
    ] = [],
    limit: Limits = [],
    budget: Annotated[str, typer.Option(help="60s, 15m, 2h or 40 trials.")] = "",
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=256, help="Trials at once; 0 is one a core, as without a spec that says otherwise."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Same seed, same result; 0, or what the spec says.")
    ] = None,
    group: Group = "",
    time: Time = "",
    type_: Types = [],
    promote: Annotated[bool, typer.Option("--promote", help="Make the result live whatever was live before.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew where an unfinished run would go on.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Search, train, compress, measure and publish the smallest, fastest model that is good enough."""
    from modelmill.ask import request

    data = {"target": target, "group": group, "time": time, "test": test, "types": pairs("--type", type_)}
    goal = {
        "maximize": maximize,
        "minimize": minimize,
        "reach": numbers("--reach", reach),
        "limit": numbers("--limit", limit),
        "budget": budget,
    }
    spec = request(source, name=name, task=task, data=data, goal=goal, workers=workers, seed=seed)
    follow(spec, promote=promote, fresh=fresh, json=json, quiet=quiet, verbose=verbose)
