"""Column names that a graph and a person can use: unique, not empty, not the name of an output."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from modelmill.finding import Finding

RESERVED = frozenset({"label", "probabilities", "value", "features"})
"""Names that the graph gives to what comes out, so that no input may have them."""

TARGETS = ("target", "label", "class", "y")
"""What a column is called that is probably to be predicted, the likeliest first."""


def clean(names: Sequence[str], where: str) -> tuple[list[str], tuple[Finding, ...]]:
    """Names with spaces trimmed, gaps filled and repetitions numbered, and what was changed.

    >>> clean(["age", "", "age"], "people.csv")[0]
    ['age', 'column_2', 'age_2']
    """
    found: list[str] = []
    taken = {_trim(name) for name in names}
    for number, name in enumerate(map(_trim, names), start=1):
        found.append(_free(name or f"column_{number}", found, taken))
    changed = {old: new for old, new in zip(map(_trim, names), found, strict=True) if old != new}
    findings = tuple(
        Finding(
            "names",
            "warning",
            f"{where} column {new}",
            f"the header calls it {old!r}; it is called {new!r} from here on",
            "Give every column a name of its own.",
        )
        for old, new in changed.items()
    )
    return found, findings


def _trim(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("\0", "").strip()


def _free(name: str, found: Sequence[str], taken: set[str]) -> str:
    if name not in found:
        return name
    number = 2
    while f"{name}_{number}" in taken or f"{name}_{number}" in found:
        number += 1
    return f"{name}_{number}"


def as_input(name: str, others: Sequence[str]) -> str:
    """The name of a column as an input of the graph: its own, unless an output is called so.

    >>> as_input("value", [])
    'value_in'
    """
    if name not in RESERVED:
        return name
    wanted = f"{name}_in"
    while wanted in others:
        wanted += "_"
    return wanted


def find_target(names: Sequence[str]) -> tuple[str, bool]:
    """The column that is probably to be predicted, and whether its name says so; else the last one.

    >>> find_target(["Class", "age"])
    ('Class', True)
    """
    for wanted in TARGETS:
        for name in names:
            if name.lower() == wanted:
                return name, True
    return names[-1], False
