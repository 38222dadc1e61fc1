"""The verb `methods`: families, their methods and settings."""

from __future__ import annotations

from typing import Annotated

import typer

from modelmill.verbs.options import Json
from modelmill.verbs.say import print_json


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
        print_json(entries)
    else:
        from modelmill.listing import print_methods

        print_methods(entries, full=bool(family))
