"""The verbs of `search`: runs of the mill."""

from __future__ import annotations

import typer

from modelmill.verbs.options import Json, Quiet, RunName, Verbose
from modelmill.verbs.say import print_json

search = typer.Typer(help="Runs of the mill: runs, show, compare, resume.", rich_markup_mode=None)


@search.command("runs")
def search_runs(json: Json = False) -> None:
    """List every run with its state and its trials, the newest first."""
    from modelmill.api import home
    from modelmill.runs import print_runs
    from modelmill.search.ledger.runs import runs

    found = runs(home().database)
    if json:
        print_json(found)
    else:
        print_runs(found)


@search.command("show")
def search_show(run: RunName, json: Json = False) -> None:
    """Show a run: its goal, best trial, front, who suggested what, what the search cost, the last trials."""
    from modelmill.api import home
    from modelmill.runs import print_summary
    from modelmill.search.ledger.runs import find, summary

    database = home().database
    found = summary(database, find(database, run))
    if json:
        print_json(found)
    else:
        print_summary(found)


@search.command("compare")
def search_compare(first: RunName, second: RunName, json: Json = False) -> None:
    """Show two runs side by side, and which of their settings differ."""
    from modelmill.api import home
    from modelmill.runs import print_comparison
    from modelmill.search.ledger.runs import compare, find, summary

    database = home().database
    pair = [summary(database, find(database, name)) for name in (first, second)]
    rows = compare(*pair)
    if json:
        print_json({"runs": [one.run.folder for one in pair], **rows})
    else:
        print_comparison(pair, rows)


@search.command("resume")
def search_resume(run: RunName, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Go on with a run that did not finish, by the spec that it was begun with."""
    from modelmill.api import home
    from modelmill.runs import resume
    from modelmill.screen import Screen
    from modelmill.search.ledger.runs import find

    place = home()
    with Screen(quiet=quiet, verbose=verbose, goal=find(place.database, run).study.goal) as screen:
        report = screen.follow(resume(place, run))
    if json:
        print_json(report)
    elif not quiet:
        screen.report(report)
