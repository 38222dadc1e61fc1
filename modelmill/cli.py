"""The command line: prints what the generators yield, and owns exit codes and environment variables."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelmill import __version__
from modelmill.errors import GoalError, MillError, OutOfBounds, UsageError

if TYPE_CHECKING:
    from modelmill.registry.registry import Registry
    from modelmill.store.home import Home

app = typer.Typer(
    name="modelmill",
    help="The smallest, fastest model that is good enough: searched, milled, measured and served.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models = typer.Typer(
    help="Versions in the registry: list, show, compare, promote, rollback, verify, delete.", rich_markup_mode=None
)
app.add_typer(models, name="models")
search = typer.Typer(help="Runs of the mill: runs, show, compare, resume.", rich_markup_mode=None)
app.add_typer(search, name="search")

Refused: type[Any] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
"""What the parser raises; typer brings a parser of its own, and names its root nowhere."""

GO_ON = "What was done is kept: the same command goes on."

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say only what went wrong.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Say more: every trial with its settings.")]
RunName = Annotated[str, typer.Argument(help="A run's number or folder, or how that begins.", metavar="RUN")]
Name = Annotated[str, typer.Argument(help="NAME, NAME@3 or NAME@alias; NAME alone is NAME@live.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with the exit code of the contract."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run one command: 0 done, 2 usage, 1 failed, 3 nothing keeps the limits, 130 interrupted."""
    as_json = "--json" in arguments
    try:
        result = typer.main.get_command(app).main(list(arguments), "modelmill", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except Refused as error:
        if not arguments or list(arguments) in (["models"], ["search"]):
            return 2
        return _fail(UsageError("command line", error.format_message(), "See `modelmill --help`."), as_json)
    except MillError as error:
        return _fail(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        if as_json:
            _print_json({"error": {"code": "interrupted", "where": "", "message": "interrupted", "try": GO_ON}})
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _fail(error: MillError, as_json: bool) -> int:
    if as_json:
        _print_json({"error": error.as_json()})
    print(f"modelmill: {error}", file=sys.stderr)
    if isinstance(error, UsageError):
        return 2
    return 3 if isinstance(error, GoalError) else 1


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _home() -> Home:
    from modelmill.api import home

    return home()


def _shelf() -> Registry:
    from modelmill.api import registry

    return registry()


def _version(value: bool) -> None:
    if value:
        print(f"modelmill {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def build(
    source: Annotated[str, typer.Argument(help="A built-in set, a file, a folder, or a spec (.toml).")],
    name: Annotated[str, typer.Option(help="The model's name; by default the set's or the file's stem.")] = "",
    target: Annotated[str, typer.Option(help="The column to predict.")] = "",
    task: Annotated[str, typer.Option(help="classify or regress; inferred where not given.")] = "",
    test: Annotated[str, typer.Option(help="A file of rows that no search may see.", metavar="FILE")] = "",
    maximize: Annotated[list[str], typer.Option(help="A metric to make large; may be repeated.")] = [],
    minimize: Annotated[list[str], typer.Option(help="A metric or cost to make small; may be repeated.")] = [],
    reach: Annotated[
        list[str], typer.Option(help="Stop at this quality, then prefer the cheaper.", metavar="METRIC=VALUE")
    ] = [],
    limit: Annotated[list[str], typer.Option(help="What it may cost at most.", metavar="COST=VALUE")] = [],
    budget: Annotated[str, typer.Option(help="60s, 15m, 2h or 40 trials.")] = "",
    workers: Annotated[int, typer.Option(min=0, max=256, help="Trials at once; 0 is one a core.")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Same seed, same result.")] = 0,
    group: Annotated[str, typer.Option(help="Rows of one group stay on one side.", metavar="COLUMN")] = "",
    time: Annotated[str, typer.Option(help="Cut by time: the newest rows are the test set.", metavar="COLUMN")] = "",
    type_: Annotated[list[str], typer.Option("--type", help="State a column's type.", metavar="COLUMN=KIND")] = [],
    promote: Annotated[bool, typer.Option("--promote", help="Make the result live whatever was live before.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew where an unfinished run would go on.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Search, train, compress, measure and publish the smallest, fastest model that is good enough."""
    from modelmill.ask import request
    from modelmill.mill import Options
    from modelmill.mill import build as run_build
    from modelmill.screen import Screen

    data = {"target": target, "group": group, "time": time, "test": test, "types": _pairs("--type", type_)}
    goal = {
        "maximize": maximize,
        "minimize": minimize,
        "reach": _numbers("--reach", reach),
        "limit": _numbers("--limit", limit),
        "budget": budget,
    }
    spec = request(source, name=name, task=task, data=data, goal=goal, workers=workers, seed=seed)
    place = _home()
    with Screen(quiet=quiet, verbose=verbose, goal=spec.goal) as screen:
        try:
            report = screen.follow(run_build(spec, place, Options(promote=promote, fresh=fresh)))
        except KeyboardInterrupt:
            if not screen.offers_best():
                raise
            report = screen.follow(run_build(spec, place, Options(promote=promote, finish=True)))
    if json:
        _print_json(report)
    elif not quiet:
        screen.report(report)


def _pairs(flag: str, items: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not (key and sign and value):
            raise OutOfBounds(f"{flag} {item}", "expected NAME=VALUE", f"Write {flag} {key or 'NAME'}=VALUE.")
        if key in found:
            raise OutOfBounds(f"{flag} {item}", f"{key} was given before, as {found[key]}", "Give it once.")
        found[key] = value
    return found


def _numbers(flag: str, items: Sequence[str]) -> dict[str, float]:
    found = {}
    for key, value in _pairs(flag, items).items():
        try:
            found[key] = float(value)
        except ValueError:
            found[key] = math.nan
        if not math.isfinite(found[key]):
            raise OutOfBounds(f"{flag} {key}={value}", f"{value!r} is not a number", f"Write {flag} {key}=1.5")
    return found


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="A built-in set, a file or a folder.")],
    target: Annotated[str, typer.Option(help="The column to predict.")] = "",
    task: Annotated[str, typer.Option(help="classify or regress.")] = "",
    test: Annotated[str, typer.Option(help="A file of rows that no search may see.", metavar="FILE")] = "",
    group: Annotated[str, typer.Option(help="Rows of one group stay on one side.", metavar="COLUMN")] = "",
    time: Annotated[str, typer.Option(help="Cut by time: the newest rows are the test set.", metavar="COLUMN")] = "",
    type_: Annotated[list[str], typer.Option("--type", help="State a column's type.", metavar="COLUMN=KIND")] = [],
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Same seed, same split.")] = 0,
    json: Json = False,
) -> None:
    """Look at data before any training: types, missing values, duplicates, leakage, balance."""
    from modelmill.ask import request
    from modelmill.recipe.look import look
    from modelmill.screen import Screen

    data = {"target": target, "group": group, "time": time, "test": test, "types": _pairs("--type", type_)}
    seen = look(request(source, task=task, data=data, seed=seed))
    if json:
        _print_json({"card": seen.card, "findings": seen.findings, "signature": seen.job.signature})
    else:
        with Screen() as screen:
            screen.card(seen.card, seen.findings)


@app.command()
def predict(
    name: Name,
    input: Annotated[Path, typer.Option("--input", help="CSV, Parquet, NPZ or IDX rows.", metavar="FILE")],
    output: Annotated[Path | None, typer.Option("--output", help="Where to write; standard output by default.")] = None,
    json: Json = False,
) -> None:
    """Answer every row of a file, with the model of the registry and without a service."""
    from modelmill.api import load
    from modelmill.table import write_answers

    model = load(name, _home())
    answers = model.predict_file(input)
    if json and output is None:
        _print_json(model.as_json(answers))
    else:
        rows = write_answers(answers, model.version.signature, output)
        if output is not None:
            print(f"{rows} rows written to {output}", file=sys.stderr)


@app.command()
def evaluate(
    name: Name,
    data: Annotated[str, typer.Option("--data", help="A source with the truth in it.")],
    target: Annotated[str, typer.Option(help="The column with the truth.")] = "",
    json: Json = False,
) -> None:
    """Score a version on data with the truth, and measure what it costs on this machine."""
    from modelmill.api import load
    from modelmill.tables import console, scores_table

    loaded = load(name, _home())
    scores = loaded.evaluate(data, target)
    if json:
        _print_json({"model": loaded.version.reference, **scores})
    else:
        console().print(scores_table(loaded.version.reference, scores["metrics"], scores["costs"]))


@app.command()
def monitor(
    name: Name,
    input: Annotated[str, typer.Option("--input", help="New rows, as `predict` takes them.", metavar="FILE")],
    window: Annotated[int, typer.Option(min=0, help="Rows to look at together; 0 is all of them.")] = 0,
    json: Json = False,
) -> None:
    """Say which columns and answers drifted since the model was published; needs no truth."""
    from modelmill.api import load
    from modelmill.tables import console, drift_table

    model = load(name, _home())
    findings = list(model.watch(input, window))
    if json:
        _print_json({"model": model.version.reference, "findings": findings})
    elif not findings:
        print(f"Nothing drifted: these rows are like those that {model.version.reference} was published with.")
    else:
        console().print(drift_table(model.version.reference, findings))
        print("\n".join(dict.fromkeys(finding.hint for finding in findings)))


@app.command()
def serve(
    names: Annotated[list[str] | None, typer.Argument(help="Models to serve; every live one by default.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.", min=0, max=65535)] = 8080,
    grpc_port: Annotated[int, typer.Option(help="Accepted, and not used yet.", min=0, max=65535)] = 8081,
    quiet: Quiet = False,
) -> None:
    """Serve models over HTTP: Open Inference Protocol, plain JSON, metrics, and pages for people."""
    from modelmill.api import home
    from modelmill.console.pages import Pages
    from modelmill.serve import server

    shelf = _shelf()
    say: Callable[[str], None] = (
        (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True))
    )

    def ready(url: str) -> None:
        say(f"modelmill serves {url} (Ctrl-C stops it)")
        say(f"gRPC is not served yet: --grpc-port {grpc_port} is unused.")

    server.run(shelf, names or [], host, port, ready=ready, pages=Pages(shelf, home().database))


@app.command()
def methods(
    family: Annotated[str, typer.Argument(help="A family such as arch, compress or train; all by default.")] = "",
    json: Json = False,
) -> None:
    """List families, their methods, and each method's settings with bounds, defaults and paper."""
    from modelmill.errors import UnknownName
    from modelmill.method import ROOT, catalogue, families, home

    if family and not (home(family).is_dir() and home(family) != ROOT):
        raise UnknownName.among("methods", "family", family, families())
    entries = catalogue(family)
    if json:
        _print_json(entries)
    else:
        from modelmill.listing import print_methods

        print_methods(entries, full=bool(family))


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, how many cores, which instructions, and what is missing."""
    from modelmill.doctor import examine

    found = examine(_home().path)
    if json:
        _print_json(found)
    else:
        from modelmill.listing import print_doctor

        print_doctor(found)


@models.command("list")
def models_list(json: Json = False) -> None:
    """List every model with its versions."""
    from modelmill.listing import print_models

    shelf = _shelf()
    found = [version for name in shelf.names() for version in shelf.versions(name)]
    if json:
        _print_json(found)
    else:
        print_models(found, shelf)


@models.command("show")
def models_show(name: Name, json: Json = False) -> None:
    """Show one version: what it takes and gives, its figures, where it comes from, what happened to it."""
    from modelmill.listing import print_version

    shelf = _shelf()
    version = shelf.find(name)
    if json:
        _print_json({"version": version, "report": shelf.report(version), "events": shelf.events(version.name)})
    else:
        print_version(version, shelf)


@models.command("compare")
def models_compare(first: Name, second: Name, json: Json = False) -> None:
    """Show two versions side by side."""
    from modelmill.listing import compare, print_comparison

    shelf = _shelf()
    pair = [shelf.find(first), shelf.find(second)]
    rows = compare(*(shelf.report(version) for version in pair))
    if json:
        _print_json({"versions": [version.reference for version in pair], "figures": rows})
    else:
        print_comparison(pair, rows)


@models.command("promote")
def models_promote(
    name: Name, alias: Annotated[str, typer.Option(help="The alias to move.")] = "live", json: Json = False
) -> None:
    """Point an alias at a version."""
    shelf = _shelf()
    version = shelf.find(name)
    _tell(shelf.promote(version.name, version.number, alias), json, f"{alias} is now {version.reference}")


@models.command("rollback")
def models_rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = "live",
    json: Json = False,
) -> None:
    """Point an alias at the version that it pointed at before."""
    version = _shelf().rollback(name, alias)
    _tell(version, json, f"{alias} is back at {version.reference}")


@models.command("verify")
def models_verify(
    name: Annotated[str, typer.Argument(help="NAME, NAME@3 or NAME@alias; all versions by default.")] = "",
    json: Json = False,
) -> None:
    """Check that the stored bytes are the bytes that were published."""
    from modelmill.errors import Tampered

    shelf = _shelf()
    found = [shelf.find(name)] if name else [v for n in shelf.names() for v in shelf.versions(n)]
    problems = {version.reference: shelf.verify(version.reference) for version in found}
    bad = {reference: lines for reference, lines in problems.items() if lines}
    if bad:
        reference, lines = next(iter(bad.items()))
        raise Tampered(reference, "; ".join(lines), "Delete the version, or restore its files from a copy.")
    _tell(problems, json, f"{len(found)} versions, all as published")


@models.command("delete")
def models_delete(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Even where an alias points at it.")] = False,
    json: Json = False,
) -> None:
    """Delete a version and the files that no other version needs."""
    shelf = _shelf()
    version = shelf.find(name)
    shelf.delete(version.reference, force=force)
    _tell({"deleted": version.reference}, json, f"{version.reference} is deleted")


@search.command("runs")
def search_runs(json: Json = False) -> None:
    """List every run with its state and its trials, the newest first."""
    from modelmill.runs import print_runs
    from modelmill.search.ledger.runs import runs

    found = runs(_home().database)
    if json:
        _print_json(found)
    else:
        print_runs(found)


@search.command("show")
def search_show(run: RunName, json: Json = False) -> None:
    """Show a run: its goal, best trial, front, who suggested what, what the search cost, the last trials."""
    from modelmill.runs import print_summary
    from modelmill.search.ledger.runs import find, summary

    database = _home().database
    found = summary(database, find(database, run))
    if json:
        _print_json(found)
    else:
        print_summary(found)


@search.command("compare")
def search_compare(first: RunName, second: RunName, json: Json = False) -> None:
    """Show two runs side by side, and which of their settings differ."""
    from modelmill.runs import print_comparison
    from modelmill.search.ledger.runs import compare, find, summary

    database = _home().database
    pair = [summary(database, find(database, name)) for name in (first, second)]
    rows = compare(*pair)
    if json:
        _print_json({"runs": [one.run.folder for one in pair], **rows})
    else:
        print_comparison(pair, rows)


@search.command("resume")
def search_resume(run: RunName, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Go on with a run that did not finish, by the spec that it was begun with."""
    from modelmill.runs import resume
    from modelmill.screen import Screen
    from modelmill.search.ledger.runs import find

    place = _home()
    with Screen(quiet=quiet, verbose=verbose, goal=find(place.database, run).study.goal) as screen:
        report = screen.follow(resume(place, run))
    if json:
        _print_json(report)
    elif not quiet:
        screen.report(report)


def _tell(value: Any, as_json: bool, text: str) -> None:
    if as_json:
        _print_json(value)
    else:
        print(text)


if __name__ == "__main__":
    main()
