"""The verb `compress`: a smaller, faster child of a published version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelmill.verbs.follow import follow
from modelmill.verbs.options import Json, Limits, Name, Quiet, Verbose, numbers


def compress(
    name: Name,
    data: Annotated[str, typer.Option(help="Rows to measure and train with; by default its own.", metavar="FILE")] = "",
    recipe: Annotated[Path | None, typer.Option(help="Steps to choose from, as [[compress]] tables (.toml).")] = None,
    limit: Limits = [],
    allow_loss: Annotated[
        float | None, typer.Option(help="How much quality it may cost; 0.01 by default.", metavar="X")
    ] = None,
    budget: Annotated[str, typer.Option(help="60s, 15m, 2h or 40 trials.")] = "",
    workers: Annotated[int, typer.Option(min=0, max=256, help="Trials at once; 0 is one a core.")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Same seed, same recipes.")] = 0,
    called: Annotated[str, typer.Option("--name", help="Publish under another name.")] = "",
    promote: Annotated[bool, typer.Option("--promote", help="Make the child live whatever was live before.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew where an unfinished run would go on.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Search among recipes of compression and publish a child version that is no slower, no larger and good enough."""
    from modelmill.ask import compression

    goal = {"limit": numbers("--limit", limit), "allow_loss": allow_loss, "budget": budget}
    spec = compression(name, data, recipe=recipe or "", called=called, goal=goal, workers=workers, seed=seed)
    follow(spec, promote=promote, fresh=fresh, json=json, quiet=quiet, verbose=verbose)
