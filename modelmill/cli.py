"""The command line: gathers the verbs, and owns exit codes and what is said of a failure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from modelmill.errors import GoalError, MillError, UsageError
from modelmill.release import __version__
from modelmill.verbs.build import build
from modelmill.verbs.check import check
from modelmill.verbs.compress import compress
from modelmill.verbs.conform import conform
from modelmill.verbs.doctor import doctor
from modelmill.verbs.evaluate import evaluate
from modelmill.verbs.imports import import_model
from modelmill.verbs.keys import keys
from modelmill.verbs.methods import methods
from modelmill.verbs.models import models
from modelmill.verbs.monitor import monitor
from modelmill.verbs.predict import predict
from modelmill.verbs.say import print_json
from modelmill.verbs.search import search
from modelmill.verbs.serve import serve

app = typer.Typer(
    name="modelmill",
    help="The smallest, fastest model that is good enough: searched, milled, measured and served.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for verb in (build, compress, check, predict, evaluate, monitor, serve, conform, methods, doctor):
    app.command()(verb)
app.command("import")(import_model)
app.add_typer(models, name="models")
app.add_typer(search, name="search")
app.add_typer(keys, name="keys")

Refused: type[Any] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
"""What the parser raises; typer brings a parser of its own, and names its root nowhere."""

GO_ON = "What was done is kept: the same command goes on."


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
        if not arguments or list(arguments) in (["models"], ["search"], ["keys"]):
            return 2
        return _fail(UsageError("command line", error.format_message(), "See `modelmill --help`."), as_json)
    except MillError as error:
        return _fail(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        if as_json:
            print_json({"error": {"code": "interrupted", "where": "", "message": "interrupted", "try": GO_ON}})
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _fail(error: MillError, as_json: bool) -> int:
    if as_json:
        print_json({"error": error.as_json()})
    print(f"modelmill: {error}", file=sys.stderr)
    if isinstance(error, UsageError):
        return 2
    return 3 if isinstance(error, GoalError) else 1


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


if __name__ == "__main__":
    main()
