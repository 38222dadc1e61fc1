"""The verbs of `models` that say which version answers: rollout, rollouts, route, changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from modelmill.verbs.options import Json, Name, pairs
from modelmill.verbs.say import print_json, tell

Model = Annotated[str, typer.Argument(help="The model's name.")]


def rollout(
    name: Name,
    steps: Annotated[str, typer.Option(help="Percentages that it answers, one after the other.")] = "1,5,25,100",
    shadow: Annotated[bool, typer.Option(help="Ask it unseen, before it answers anybody.")] = True,
    pairs: Annotated[int, typer.Option(min=0, help="Mirrored requests before the shadow ends.")] = 2000,
    requests: Annotated[int, typer.Option(min=0, help="Requests that it answers in each step at least.")] = 100,
    seconds: Annotated[float, typer.Option(min=0, help="How long a step takes at least.")] = 10.0,
    by: Annotated[str, typer.Option(help="One caller, one version: tenant, key, header:NAME or cookie:NAME.")] = "",
    notes: Annotated[str, typer.Option(help="What clients are told about it.")] = "",
    allow: Annotated[
        list[str],
        typer.Option(help="What is tolerated: errors, slower, tail, differ, near, level.", metavar="NAME=VALUE"),
    ] = [],
    json: Json = False,
) -> None:
    """Let a version take over from the live one, step by step; it is taken back where it is worse."""
    from modelmill.api import rollout as begin
    from modelmill.verbs.options import numbers

    settings = {
        "steps": _steps(steps),
        "shadow": shadow,
        "pairs": pairs,
        "requests": requests,
        "seconds": seconds,
        "by": by,
        "notes": notes,
        **numbers("--allow", allow),
    }
    begun = begin(name, settings)
    text = f"{begun.reference} is on its way ({begun.stage}); running services drive it. See: "
    tell(begun, json, f"{text}modelmill models rollouts {begun.name}")


def _steps(text: str) -> list[float]:
    from modelmill.errors import OutOfBounds

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise OutOfBounds(f"--steps {text}", "expected percentages", "Write --steps 1,5,25,100") from None


def rollouts(
    name: Model,
    action: Annotated[str, typer.Argument(help="`abort` ends the one that is on its way.")] = "",
    json: Json = False,
) -> None:
    """Show the rollouts of a model with their evidence, or abort the one that is on its way."""
    from modelmill.api import abort_rollout
    from modelmill.api import rollouts as listed
    from modelmill.errors import UnknownName

    if action not in ("", "abort"):
        raise UnknownName.among("rollouts", "action", action, ["abort"])
    if action:
        ended = abort_rollout(name)
        tell(ended, json, f"the rollout of {ended.reference} is aborted")
        return
    found = listed(name)
    if json:
        print_json({"rollouts": found})
    elif not found:
        print(f"No rollout of {name} yet. Try: modelmill models rollout {name}@NUMBER")
    else:
        for at in found:
            _print_rollout(at)


def _print_rollout(at: Mapping[str, Any]) -> None:
    counts, times = at["evidence"]["counts"], at["evidence"]["latency"]
    print(f"{at['model']}@{at['version']} in the place of {at['model']}@{at['base']}: {at['stage']}")
    print(f"  {at['reason']}" + (f"; waits for {at['waits']}" if at["waits"] else ""))
    print(
        f"  answered {counts['candidate']} requests ({counts['candidate_failed']} failed), the live one"
        f" {counts['live']} ({counts['live_failed']}); {counts['pairs']} mirrored, {counts['dropped']} dropped;"
        f" {counts['rows_differ']} of {counts['rows']} rows differ"
    )
    if times["live_p50_ms"] is not None:
        print(
            f"  p50 {times['candidate_p50_ms']:.3f} ms (live {times['live_p50_ms']:.3f}),"
            f" p95 {times['candidate_p95_ms']:.3f} ms (live {times['live_p95_ms']:.3f})"
        )
    values = ", ".join(f"{name} 10^{found['log10_e']:.1f}" for name, found in at["evidence"]["criteria"].items())
    print(f"  e-values against it: {values}")


def route(
    name: Model,
    method: Annotated[str, typer.Argument(help="A router: see `modelmill methods router`.")] = "",
    settings: Annotated[list[str], typer.Option("--set", help="A setting of it.", metavar="NAME=VALUE")] = [],
    clear: Annotated[bool, typer.Option("--clear", help="Let the live version answer.")] = False,
    json: Json = False,
) -> None:
    """Let a router say which version answers for NAME alone: canary, sticky, header, blue_green or shadow.

    Without a router: what is set, and what a shadow compared so far.
    """
    from modelmill.api import home
    from modelmill.api import route as set_route
    from modelmill.serve.traffic import changes

    if method or clear:
        set_route(name, None if clear else {"method": method, **_values(settings)})
    table = changes.route(home().database, name)
    text = f"{name}: {_answers(table)}"
    if table is not None and "compared" in table:
        text += f"; compared {_compared(table['compared'])}"
    tell({"model": name, "route": table}, json, text)


def _answers(table: Mapping[str, Any] | None) -> str:
    """Who answers, by the table of a route."""
    if table is None:
        return "the live version answers"
    settings = {key: value for key, value in table.items() if key not in ("at_ms", "compared") and value != ""}
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _values(settings: Sequence[str]) -> dict[str, Any]:
    """Settings as they are meant: a number where it stands alone for what counts, text for a label."""
    found: dict[str, Any] = dict(pairs("--set", settings))
    if "percent" in found:
        from modelmill.verbs.options import numbers

        found |= numbers("--set", [f"percent={found['percent']}"])
    return found


def changes(name: Model, json: Json = False) -> None:
    """Show what changed about a model, newest first: versions, promotions, rollbacks, steps of rollouts, routes."""
    from modelmill.api import changes as told

    found = told(name)
    if json:
        print_json({"model": name, "changes": found})
        return
    for at in found:
        when = datetime.fromtimestamp(at["at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        print(f"{when}  {_told(at, name)}" + (f": {at['note']}" if at.get("note") else ""))


def _told(at: Mapping[str, Any], name: str) -> str:
    if at["what"] == "route":
        compared = f"; it compared {_compared(at['compared'])}" if "compared" in at else ""
        return f"route of {name}: {_answers(at['after'])} (before: {_answers(at['before'])}{compared})"
    version = f"{name}@{at['version']}"
    if at["what"] != "rollout":
        return f"{at['what']}" + (f" ({at['alias']})" if at.get("alias") else "") + f" {version}"
    if at["state"] != "running":
        return f"rollout {at['state'].replace('_', ' ')}, {version}"
    return f"rollout in the shadow, {version}" if not at["percent"] else f"rollout at {at['percent']:g} %, {version}"


def _compared(counts: Mapping[str, int]) -> str:
    """What a route counted of a version that requests are mirrored to."""
    rows = f"{counts['rows_differ']} of {counts['rows']} rows differ"
    return f"{counts['pairs']} requests ({counts['dropped']} dropped), {rows}"
