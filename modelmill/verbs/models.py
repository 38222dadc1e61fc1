"""The verbs of `models`: versions in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from modelmill.signature import Field
from modelmill.verbs import traffic
from modelmill.verbs.options import Json, Name
from modelmill.verbs.say import print_json, tell

models = typer.Typer(
    help="Versions in the registry: list, show, compare, promote, rollback, verify, delete; how new ones take over.",
    rich_markup_mode=None,
)
models.command("rollout")(traffic.rollout)
models.command("rollouts")(traffic.rollouts)
models.command("route")(traffic.route)
models.command("changes")(traffic.changes)


@models.command("pipeline")
def models_pipeline(
    name: Annotated[str, typer.Argument(help="The pipeline's name.")],
    steps: Annotated[Path, typer.Argument(help="A TOML file with [[steps]].", metavar="FILE.toml")],
    promote: Annotated[bool, typer.Option("--promote", help="Make it live whatever was live before.")] = False,
    json: Json = False,
) -> None:
    """Publish models that answer together, the outputs of one being inputs of the next."""
    from modelmill.api import publish_pipeline

    version = publish_pipeline(name, steps, promote=promote)
    live = " (live)" if "live" in version.aliases else ""
    tell(version, json, f"{version.reference}{live} takes {_names(version.signature.inputs)}")


def _names(fields: Sequence[Field]) -> str:
    return ", ".join(field.name for field in fields)


@models.command("list")
def models_list(json: Json = False) -> None:
    """List every model with its versions."""
    from modelmill.api import registry
    from modelmill.listing import print_models

    shelf = registry()
    found = [version for name in shelf.names() for version in shelf.versions(name)]
    if json:
        print_json(found)
    else:
        print_models(found, shelf)


@models.command("show")
def models_show(name: Name, json: Json = False) -> None:
    """Show one version: what it takes and gives, its figures, where it comes from, what happened to it."""
    from modelmill.api import registry
    from modelmill.listing import print_version

    shelf = registry()
    version = shelf.find(name)
    if json:
        report, events = shelf.report(version), shelf.events(version.name)
        print_json({"version": version, "stored": shelf.stored(version), "report": report, "events": events})
    else:
        print_version(version, shelf)


@models.command("compare")
def models_compare(first: Name, second: Name, json: Json = False) -> None:
    """Show two versions side by side."""
    from modelmill.api import registry
    from modelmill.listing import compare, print_comparison

    shelf = registry()
    pair = [shelf.find(first), shelf.find(second)]
    rows = compare(*(shelf.report(version) for version in pair))
    if json:
        print_json({"versions": [version.reference for version in pair], "figures": rows})
    else:
        print_comparison(pair, rows)


@models.command("promote")
def models_promote(
    name: Name,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "live",
    notes: Annotated[str, typer.Option(help="What clients are told about it.")] = "",
    json: Json = False,
) -> None:
    """Point an alias at a version."""
    from modelmill.api import registry

    shelf = registry()
    version = shelf.find(name)
    tell(shelf.promote(version.name, version.number, alias, notes), json, f"{alias} is now {version.reference}")


@models.command("rollback")
def models_rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = "live",
    json: Json = False,
) -> None:
    """Point an alias at the version that it pointed at before."""
    from modelmill.api import registry

    version = registry().rollback(name, alias)
    tell(version, json, f"{alias} is back at {version.reference}")


@models.command("verify")
def models_verify(
    name: Annotated[str, typer.Argument(help="NAME, NAME@3 or NAME@alias; all versions by default.")] = "",
    json: Json = False,
) -> None:
    """Check that the stored bytes are the bytes that were published."""
    from modelmill.api import registry
    from modelmill.errors import Tampered

    shelf = registry()
    found = [shelf.find(name)] if name else [v for n in shelf.names() for v in shelf.versions(n)]
    problems = {version.reference: shelf.verify(version.reference) for version in found}
    bad = {reference: lines for reference, lines in problems.items() if lines}
    if bad:
        reference, lines = next(iter(bad.items()))
        raise Tampered(reference, "; ".join(lines), "Delete the version, or restore its files from a copy.")
    tell(problems, json, f"{len(found)} versions, all as published")


@models.command("delete")
def models_delete(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Even where an alias, a route or a rollout names it.")] = False,
    json: Json = False,
) -> None:
    """Delete a version and the files that no other version needs."""
    from modelmill.api import registry

    shelf = registry()
    version = shelf.find(name)
    ended = shelf.delete(version.reference, force=force)
    with_it = f", and {' and '.join(ended)} ended with it" if ended else ""
    tell({"deleted": version.reference, "ended": ended}, json, f"{version.reference} is deleted{with_it}")
