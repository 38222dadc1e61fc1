"""Options and arguments that mean the same in every verb, and how their values are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import typer

from modelmill.errors import OutOfBounds

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say only what went wrong.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Say more: every trial with its settings.")]
RunName = Annotated[str, typer.Argument(help="A run's number or folder, or how that begins.", metavar="RUN")]
Name = Annotated[str, typer.Argument(help="NAME, NAME@3 or NAME@alias; NAME alone is NAME@live.")]
Target = Annotated[str, typer.Option(help="The column to predict.")]
Test = Annotated[str, typer.Option(help="A file of rows that no search may see.", metavar="FILE")]
Group = Annotated[str, typer.Option(help="Rows of one group stay on one side.", metavar="COLUMN")]
Time = Annotated[str, typer.Option(help="Cut by time: the newest rows are the test set.", metavar="COLUMN")]
Types = Annotated[list[str], typer.Option("--type", help="State a column's type.", metavar="COLUMN=KIND")]
Limits = Annotated[list[str], typer.Option(help="What it may cost at most.", metavar="COST=VALUE")]


def pairs(flag: str, items: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, as often as it was given; an error for what is none, or comes twice."""
    found: dict[str, str] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not (key and sign and value):
            raise OutOfBounds(f"{flag} {item}", "expected NAME=VALUE", f"Write {flag} {key or 'NAME'}=VALUE.")
        if key in found:
            raise OutOfBounds(f"{flag} {item}", f"{key} was given before, as {found[key]}", "Give it once.")
        found[key] = value
    return found


def numbers(flag: str, items: Sequence[str]) -> dict[str, float]:
    """NAME=NUMBER, as often as it was given; an error for what is none."""
    found = {}
    for key, value in pairs(flag, items).items():
        try:
            found[key] = float(value)
        except ValueError:
            found[key] = math.nan
        if not math.isfinite(found[key]):
            raise OutOfBounds(f"{flag} {key}={value}", f"{value!r} is not a number", f"Write {flag} {key}=1.5")
    return found
