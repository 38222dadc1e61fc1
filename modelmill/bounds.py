"""What a value may be, in words: what msgspec says of one that it refuses, for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import msgspec

BOUND = r"(?: (?P<length>of length )?(?P<sign>[<>]=?) (?P<limit>\S+))?"
SAID = re.compile(rf"Expected `(?P<kind>[^`]+)`{BOUND}(?:, got .*)?")
STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
SIGNS = {"<=": "at most", ">=": "at least", "<": "below", ">": "above"}
KINDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
PARTS = {"str": "characters", "array": "items", "object": "entries"}
"""What a length counts."""


def wanted(annotation: Any, error: msgspec.ValidationError) -> str:
    """What was expected: by an annotation's `description` where it has a pattern, since a regex is not for people.

    >>> from typing import Annotated
    >>> kind = Annotated[str, msgspec.Meta(pattern="^[a-z]+$", description="small letters")]
    >>> wanted(kind, msgspec.ValidationError("Expected `str` matching regex '^[a-z]+$' - at `$.by`"))
    'expected small letters'
    >>> wanted(float, msgspec.ValidationError("Expected `float` <= 100.0 - at `$.steps[1]`"))
    'expected a number of at most 100'
    >>> wanted(Literal["blue", "green"], msgspec.ValidationError("Invalid enum value 'red'"))
    'expected blue or green'
    """
    said = str(error).partition(" - at ")[0]
    described = [one.description for one in getattr(annotation, "__metadata__", ()) if getattr(one, "pattern", None)]
    if described and described[0] and "matching regex" in said:
        return f"expected {described[0]}"
    options = _options(annotation)
    if options and "enum value" in said:
        return f"expected {' or '.join(map(str, options))}"
    found = SAID.fullmatch(said)
    return f"expected {_words(**found.groupdict())}" if found else said[:1].lower() + said[1:]


def _words(kind: str, length: str | None, sign: str | None, limit: str | None) -> str:
    """A kind of value and its bound."""
    words = " or ".join(KINDS.get(name, name) for name in kind.split(" | "))
    if sign is None or limit is None:
        return words
    of = "of " if length or sign in ("<=", ">=") else ""
    counted = f" {PARTS.get(kind, 'items')}" if length else ""
    return f"{words} {of}{SIGNS[sign]} {limit.removesuffix('.0')}{counted}"


def _options(annotation: Any) -> Sequence[Any]:
    """The values among which one is chosen, where an annotation has such."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for part in get_args(annotation) if (found := _options(part))), ())


def place(error: msgspec.ValidationError) -> tuple[str | int, ...]:
    """The keys that lead to the refused value, and the numbers of list items, from 0.

    >>> place(msgspec.ValidationError("Expected `float` <= 100.0 - at `$.steps[1]`"))
    ('steps', 1)
    """
    _, at, path = str(error).rpartition(" - at `$")
    return tuple(key or int(item) for key, item in STEP.findall(path)) if at else ()
